// Fields of a question: sliders whose fields take any value that the command line takes, systems as chips, choices.

import { $, h } from "./dom.js";
import { STOPS, change, size, state } from "./state.js";
import { mark, told, vendor } from "./words.js";

/** The question of the left pane in one fold: open on a wide window, or as the reader left it. */
export function foldedQuestion(...what) {
  const before = $("left").querySelector("details.all");
  const open = before ? before.open : window.innerWidth > 900;
  return h("details", { class: "all", open }, h("summary", {}, "Change the question"), ...what);
}

/** A slider with its field; the field is exact. disabled: another field says what it would. */
export function slider(key, label, hint, disabled = false) {
  const stops = STOPS[key];
  const place = () => {
    const at = size(state[key]);
    let best = 0;
    stops.forEach((s, i) => {
      if (
        Math.abs(Math.log(size(s) + 1e-9) - Math.log(at + 1e-9)) <
        Math.abs(Math.log(size(stops[best]) + 1e-9) - Math.log(at + 1e-9))
      )
        best = i;
    });
    return best;
  };
  const range = h("input", {
    type: "range",
    id: `range-${key}`,
    min: 0,
    max: stops.length - 1,
    step: 1,
    "aria-label": `${label}, slider`,
    "aria-valuetext": state[key],
    disabled,
    oninput: () => set(stops[Number(range.value)], true),
  });
  range.value = place();
  const text = h("input", {
    type: "text",
    id: `text-${key}`,
    value: state[key],
    title: hint,
    disabled,
    inputmode: "text",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": `wrong-${key}`,
    onchange: () => set(text.value.trim(), false),
  });
  function set(value, fromSlider) {
    text.value = value;
    range.setAttribute("aria-valuetext", value || "none");
    change({ [key]: value });
    if (!fromSlider) range.value = place();
  }
  return h(
    "div",
    { class: "slider", "data-key": key },
    h("label", { for: `text-${key}` }, label),
    text,
    range,
    h("p", { class: "wrong", id: `wrong-${key}` }),
  );
}

/** A row of chips of which one is chosen. options: [value, label]; act(value); disabled: none can be. */
export function choice(name, legend, options, current, act, disabled = false) {
  return h(
    "fieldset",
    { class: "choice", disabled },
    h("legend", {}, legend),
    options.map(([value, label]) =>
      h(
        "label",
        { class: "pill" },
        h("input", { type: "radio", name, value, checked: value === current, onchange: () => act(value) }),
        told("span", {}, label, label),
      ),
    ),
  );
}

/** A field of any words; empty: not asked. */
export const typed = (key, label, example) =>
  h(
    "div",
    { class: "field" },
    h("label", { for: `text-${key}` }, label),
    h("input", {
      type: "text",
      id: `text-${key}`,
      value: state[key],
      placeholder: example,
      autocomplete: "off",
      spellcheck: "false",
      "aria-describedby": `wrong-${key}`,
      onchange: (e) => change({ [key]: e.target.value.trim() }),
    }),
    h("p", { class: "wrong", id: `wrong-${key}` }),
  );

/** A list of which one is chosen. */
export function select(key, label, options) {
  return h(
    "div",
    { class: "field" },
    h("label", { for: `select-${key}` }, label),
    h(
      "select",
      { id: `select-${key}`, onchange: (e) => change({ [key]: e.target.value }) },
      options.map(([value, text]) => {
        const made = h("option", { value }, text);
        made.selected = value === state[key];
        return made;
      }),
    ),
    h("p", { class: "wrong", id: `wrong-${key}` }),
  );
}

const MOST = 12;

/** The systems as chips in the colours of their vendors: those that are asked for, and a fold with all. */
export function systemsField(systems, open) {
  const known = new Map();
  for (const s of systems) for (const name of [s.id, ...s.aliases]) known.set(String(name).toLowerCase(), s);
  const idOf = (word) => known.get(word.toLowerCase().split(/[:*]/)[0])?.id;
  const asked = (s) => state.on.some((w) => idOf(w) === s.id);
  const vendors = new Map();
  for (const s of systems) vendors.set(s.vendor, [...(vendors.get(s.vendor) ?? []), s]);
  const short = (s) =>
    state.on.find((w) => idOf(w) === s.id)?.split(/[:*]/)[0] ??
    s.aliases.find((a) => a.length < s.id.length && /^(trn|tpu)/.test(a)) ??
    s.id;
  const chip = (s, word) => {
    const input = h("input", {
      type: "checkbox",
      value: s.id,
      checked: asked(s),
      onchange: () => {
        const on = input.checked ? [...state.on, s.id] : state.on.filter((w) => idOf(w) !== s.id);
        if (!on.length || on.length > MOST) {
          input.checked = !input.checked;
          $("wrong-on").textContent = on.length ? `At most ${MOST} systems.` : "Ask about one system at least.";
          return;
        }
        $("wrong-on").textContent = "";
        change({ on });
      },
    });
    return h(
      "label",
      { class: `pill machine chip-${s.id}`, title: s.display },
      input,
      h("span", {}, mark(s.id), word, s.estimated ? " (est.)" : ""),
    );
  };
  return h(
    "fieldset",
    { class: "systems" },
    h("legend", {}, "Systems"),
    state.on
      .map((w) => known.get(w.toLowerCase().split(/[:*]/)[0]))
      .filter(Boolean)
      .map((s) => chip(s, short(s))),
    h(
      "details",
      { "data-fold": "systems", open: open || !systems.some(asked) },
      h("summary", {}, "More systems"),
      [...vendors].map(([name, list]) =>
        h(
          "div",
          { class: "vendor", role: "group", "aria-label": name },
          h("span", { class: `name ${vendor(name)}` }, name),
          list.filter((s) => !asked(s)).map((s) => chip(s, short(s))),
        ),
      ),
    ),
    h("p", { class: "wrong", id: "wrong-on" }),
  );
}
