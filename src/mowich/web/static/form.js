// The left pane: model, task, systems, sliders, the scenario as YAML.

import { $, h, number } from "./dom.js";
import { once, post } from "./api.js";
import { EMPTY, STOPS, announce, change, fromAsk, size, state, toYaml, watch } from "./state.js";

const SLIDERS = {
  train: [["chips", "Chips of each system", "chips"], ["tokens", "Tokens to train on", "tokens"], ["seq", "Sequence, tokens", "tokens"], ["batch", "Batch per step", "16384seqs or 64M tokens"]],
  serve: [["serve_chips", "Chips of each system", "chips"], ["isl", "Prompt, tokens", "tokens"], ["osl", "Answer, tokens", "tokens"], ["ttft", "Longest time to first token", "2s; empty: none"],
    ["tpot", "Longest time per token", "50ms; empty: none"], ["cached", "Prompts cached", "share"]],
};
const TERMS = ["default", "tco", "list", "on-demand", "spot", "capacity-block", "1y", "3y", "market"];
const SAID = { chips: "--chips", serve_chips: "--chips", tokens: "--tokens", seq: "--seq", batch: "--batch", isl: "--isl", osl: "--osl", ttft: "--ttft", tpot: "--tpot", cached: "--cached", model: "MODEL" };

function slider(key, label, hint) {
  const stops = STOPS[key];
  const place = () => {
    const at = size(state[key]);
    let best = 0;
    stops.forEach((s, i) => {
      if (Math.abs(Math.log(size(s) + 1e-9) - Math.log(at + 1e-9)) < Math.abs(Math.log(size(stops[best]) + 1e-9) - Math.log(at + 1e-9))) best = i;
    });
    return best;
  };
  const range = h("input", { type: "range", id: `range-${key}`, min: 0, max: stops.length - 1, step: 1, value: place(), "aria-label": `${label}, slider`,
    "aria-valuetext": state[key], oninput: () => set(stops[Number(range.value)], true) });
  const text = h("input", { type: "text", id: `text-${key}`, value: state[key], title: hint, inputmode: "text", autocomplete: "off", spellcheck: "false",
    onchange: () => set(text.value.trim(), false) });
  function set(value, fromSlider) {
    text.value = value;
    range.setAttribute("aria-valuetext", value);
    change({ [key]: value });
    if (!fromSlider) range.value = place();
  }
  return h("div", { class: "slider", "data-key": key }, h("label", { for: `text-${key}` }, label), text, range, h("p", { class: "wrong", id: `wrong-${key}` }));
}

// ---- model -----------------------------------------------------------------------------------------------------------------------------

let models = [];

function picker() {
  const list = h("ul", { class: "options", role: "listbox", id: "models", "aria-label": "Models", hidden: true });
  const input = h("input", { type: "text", id: "model", role: "combobox", "aria-expanded": "false", "aria-controls": "models", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
    value: state.config ? `${state.model} (pasted)` : state.model, oninput: () => { open(true); fill(input.value); }, onfocus: () => { input.select(); open(true); fill(""); }, onblur: () => setTimeout(() => { open(false); input.value = state.config ? `${state.model} (pasted)` : state.model; }, 150),
    onkeydown: keys });
  let at = -1;
  function open(yes) {
    list.hidden = !yes;
    input.setAttribute("aria-expanded", String(yes));
    if (!yes) input.removeAttribute("aria-activedescendant");
  }
  function fill(words) {
    at = -1;
    const wanted = words.toLowerCase().split(/[\s-]+/).filter(Boolean);
    const found = models.filter((m) => wanted.every((w) => m.name.includes(w))).slice(0, 60);
    list.replaceChildren(...found.map((m, i) => h("li", { role: "option", id: `model-${i}`, "aria-selected": "false", onmousedown: (e) => { e.preventDefault(); pick(m.name); } },
      m.name, h("span", { class: "soft" }, ` ${number(m.params / 1e9)}B${m.params_active < m.params ? `, ${number(m.params_active / 1e9)}B active` : ""}`))));
    if (!found.length) list.replaceChildren(h("li", { role: "option", class: "soft", "aria-selected": "false", "aria-disabled": "true" }, "No such model: paste its config.json below."));
  }
  function pick(name) {
    change({ model: name, config: null });
    input.value = name;
    open(false);
    input.blur();
  }
  function keys(e) {
    const items = [...list.querySelectorAll("li:not([aria-disabled])")];
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (list.hidden) { open(true); fill(""); return; }
      items[at]?.setAttribute("aria-selected", "false");
      at = (at + (e.key === "ArrowDown" ? 1 : -1) + items.length) % items.length;
      items[at]?.setAttribute("aria-selected", "true");
      items[at]?.scrollIntoView({ block: "nearest" });
      if (items[at]) input.setAttribute("aria-activedescendant", items[at].id);
    } else if (e.key === "Enter") {
      const chosen = items[Math.max(at, 0)];
      if (chosen) pick(chosen.firstChild.textContent);
    } else if (e.key === "Escape") {
      if (list.hidden) input.blur();
      open(false);
    }
  }
  const pasted = h("textarea", { id: "config", rows: 6, spellcheck: "false", "aria-label": "config.json of a model", placeholder: '{"model_type": "llama", "hidden_size": 4096, ...}' });
  const wrong = h("p", { class: "wrong", id: "wrong-model" });
  const use = h("button", { type: "button", class: "small", onclick: async () => {
    wrong.textContent = "";
    try {
      const config = JSON.parse(pasted.value);
      const answer = await post("/api/model", { model: config });
      const sized = answer.result;
      change({ config, model: String(config._name_or_path ?? config.model_type ?? "pasted").split("/").pop() });
      input.value = `${state.model} (pasted)`;
      wrong.textContent = "";
      about.textContent = `${number(sized.params / 1e9)}B parameters, ${number(sized.params_active / 1e9)}B active`;
    } catch (error) {
      wrong.textContent = error instanceof SyntaxError ? `not JSON: ${error.message}` : error.message;
    }
  } }, "Use this model");
  const about = h("p", { class: "soft", id: "model-size" });
  return h("div", { class: "field model" }, h("label", { for: "model" }, "Model ", h("kbd", {}, "/")), input, list, about, wrong,
    h("details", {}, h("summary", {}, "Paste a config.json"), pasted, use));
}

// ---- systems ---------------------------------------------------------------------------------------------------------------------------

function systemsField(systems) {
  const known = new Map();
  for (const s of systems) for (const name of [s.id, ...s.aliases]) known.set(String(name).toLowerCase(), s);
  const idOf = (word) => known.get(word.toLowerCase().split(/[:*]/)[0])?.id;
  const box = h("fieldset", { class: "systems" }, h("legend", {}, "Systems"));
  const vendors = new Map();
  for (const s of systems) vendors.set(s.vendor, [...(vendors.get(s.vendor) ?? []), s]);
  for (const [vendor, list] of vendors) {
    box.append(h("div", { class: "vendor", role: "group", "aria-label": vendor }, h("span", { class: "soft" }, vendor), list.map((s) => {
      const here = state.on.find((w) => idOf(w) === s.id);
      const input = h("input", { type: "checkbox", value: s.id, checked: Boolean(here), onchange: () => {
        const on = input.checked ? [...state.on, s.id] : state.on.filter((w) => idOf(w) !== s.id);
        if (!on.length || on.length > 12) { input.checked = !input.checked; return; }
        change({ on });
      } });
      return h("label", { class: `pill ${vendor.toLowerCase()}`, title: s.display }, input, h("span", {}, s.id, s.estimated ? " (est.)" : ""));
    })));
  }
  return box;
}

// ---- the pane --------------------------------------------------------------------------------------------------------------------------

let systems = [];

export async function build() {
  const left = $("left");
  draw();
  [models, systems] = await Promise.all([once("/api/models").then((a) => a.result.models), once("/api/systems").then((a) => a.result.systems)]);
  draw();
  watch((keys) => {
    if (keys.includes("task") || keys.includes("all")) draw();
    renewYaml();
  });
  left.dataset.ready = "yes";
}

function option(value, label, current) {
  const made = h("option", { value }, label);
  made.selected = value === current;
  return made;
}

function draw() {
  const radio = (value, label) => {
    const input = h("input", { type: "radio", name: "task", value, checked: state.task === value, onchange: () => change({ task: value }) });
    return h("label", { class: "pill" }, input, h("span", {}, label));
  };
  const select = (key, label, options) => h("div", { class: "field" }, h("label", { for: `select-${key}` }, label),
    h("select", { id: `select-${key}`, onchange: (e) => change({ [key]: e.target.value }) }, options.map(([v, t]) => option(v, t, state[key]))));
  const yaml = h("textarea", { id: "yaml", rows: 11, spellcheck: "false", "aria-label": "The scenario as YAML", oninput: () => { yaml.dataset.edited = "yes"; apply.disabled = false; } });
  const apply = h("button", { type: "button", class: "small", id: "apply", disabled: true, onclick: () => applyYaml(yaml, apply) }, "Apply");
  const set = h("textarea", { id: "set", rows: 3, spellcheck: "false", "aria-label": "Settings, one path=value in a line", placeholder: "prices.trn3=$1.40/chip/h", onchange: () => change({ set: set.value.split("\n").map((s) => s.trim()).filter(Boolean) }) });
  set.value = state.set.join("\n");
  const wide = $("left").querySelector("details.all");
  const held = $("left").contains(document.activeElement) ? document.activeElement : null;
  const same = held && (held.id ? `#${CSS.escape(held.id)}` : held.name ? `[name="${held.name}"][value="${held.value}"]` : null);
  $("left").replaceChildren(h("details", { class: "all", open: wide ? wide.open : window.innerWidth > 820 }, h("summary", {}, "What is asked"),
    picker(),
    h("fieldset", { class: "task" }, h("legend", {}, "Task"), radio("train", "Train"), radio("serve", "Serve")),
    systemsField(systems),
    SLIDERS[state.task].map((s) => slider(...s)),
    state.task === "train" ? select("equal", "Equal", [["chips", "chips of each"], ["units", "units of each"], ["usd", "dollars an hour"], ["power", "power"]]) : null,
    select("term", "Price term", TERMS.map((t) => [t, t === "default" ? "one kind for all" : t.replace("-", " ")])),
    h("div", { class: "field" }, h("label", { for: "set" }, "Settings (path=value)"), set, h("p", { class: "wrong", id: "wrong-set" })),
    h("details", { class: "yaml", open: true }, h("summary", {}, "Scenario (YAML)"), yaml, apply, h("p", { class: "wrong", id: "wrong-yaml" })),
    h("button", { type: "button", class: "small quiet", onclick: () => { change({ ...structuredClone(EMPTY), tab: state.tab, task: state.task }, true); announce(["all"]); } }, "Start over"),
  ));
  if (same) $("left").querySelector(same)?.focus(); // made anew under the fingers
  renewYaml();
}

function renewYaml() {
  const yaml = $("yaml");
  if (yaml && document.activeElement !== yaml) {
    yaml.value = toYaml();
    delete yaml.dataset.edited;
    if ($("apply")) $("apply").disabled = true;
  }
}

async function applyYaml(yaml, apply) {
  const wrong = $("wrong-yaml");
  wrong.textContent = "";
  try {
    const answer = await post("/api/scenario", { yaml: yaml.value });
    change(fromAsk(answer.result.ask), true);
    yaml.blur();
    announce(["all"]);
    apply.disabled = true;
  } catch (error) {
    wrong.textContent = error.message;
  }
}

/** Put the lines of a refusal beside the fields that they are about; what has no field is returned. */
export function wrong(errors) {
  document.querySelectorAll(".left .wrong").forEach((p) => { p.textContent = ""; });
  document.querySelectorAll(".left [aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
  const rest = [];
  for (const e of errors) {
    const word = String(e.where ?? "");
    const key = Object.keys(SAID).find((k) => (word === SAID[k] || word.startsWith(`${SAID[k]} `) || word.split(".").pop() === k) && $(`wrong-${k}`)) ?? (word.startsWith("--set") || word.startsWith("set") ? "set" : null);
    const place = key && $(`wrong-${key}`);
    if (place) {
      place.textContent = e.line;
      ($(`text-${key}`) ?? $(key))?.setAttribute("aria-invalid", "true");
    } else rest.push(e);
  }
  return rest;
}


/** Draw the pane anew from the state. */
export const redraw = () => draw();
