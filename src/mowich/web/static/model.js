// The model: found by typing, or a config.json or captured file that is pasted or opened (data, never code); its
// card says parameters, active ones and context.

import { $, h, number } from "./dom.js";
import { once, post } from "./api.js";
import { change, state } from "./state.js";

let models = [];
export const learnModels = async () => {
  models = (await once("/api/models")).result.models;
};

const MOST = 256 * 1024; // bytes of a body that the server takes
const tooLong = (bytes) => `a model of ${number(bytes)} bytes; allowed: up to ${number(MOST)}`;
const billions = (n) =>
  n >= 1e12 ? `${number(n / 1e12)}T` : n >= 1e9 ? `${number(n / 1e9)}B` : `${number(n / 1e6)}M`;
const tokens = (n) => (n >= 1000 ? `${number(n / 1024)}Ki` : String(n));

/** What is known of a model in a line or two. */
function card() {
  const found = state.config ? null : models.find((m) => m.name === state.model);
  if (!found) return [];
  return [
    ["parameters", billions(found.params)],
    ["active for a token", billions(found.params_active)],
    ["layers", found.layers],
    ["context, tokens", found.context ? tokens(found.context) : "?"],
  ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))));
}

export function renewCard() {
  $("model-card")?.replaceChildren(...card());
}

export function picker() {
  const list = h("ul", { class: "options", role: "listbox", id: "models", "aria-label": "Models", hidden: true });
  const shown = () => (state.config ? `${state.model} (pasted)` : state.model);
  const input = h("input", {
    type: "text",
    id: "model",
    role: "combobox",
    "aria-expanded": "false",
    "aria-controls": "models",
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
    value: shown(),
    oninput: () => {
      open(true);
      fill(input.value);
    },
    onfocus: () => {
      input.select();
      open(true);
      fill("");
    },
    onblur: () =>
      setTimeout(() => {
        open(false);
        input.value = shown();
      }, 150),
    onkeydown: keys,
  });
  let at = -1;
  function open(yes) {
    list.hidden = !yes;
    input.setAttribute("aria-expanded", String(yes));
    if (!yes) input.removeAttribute("aria-activedescendant");
  }
  function fill(words) {
    at = -1;
    const wanted = words
      .toLowerCase()
      .split(/[\s-]+/)
      .filter(Boolean);
    const found = models.filter((m) => wanted.every((w) => m.name.includes(w))).slice(0, 60);
    list.replaceChildren(
      ...found.map((m, i) =>
        h(
          "li",
          {
            role: "option",
            id: `model-${i}`,
            "aria-selected": "false",
            onmousedown: (e) => {
              e.preventDefault();
              pick(m.name);
            },
          },
          m.name,
          h(
            "span",
            { class: "soft" },
            ` ${billions(m.params)}${m.params_active < m.params ? `, ${billions(m.params_active)} active` : ""}`,
          ),
        ),
      ),
    );
    if (!found.length)
      list.replaceChildren(
        h(
          "li",
          { role: "option", class: "soft", "aria-selected": "false", "aria-disabled": "true" },
          "No such model: paste its config.json below, or a file of mowich capture.",
        ),
      );
  }
  function pick(name) {
    change({ model: name, config: null });
    input.value = name;
    renewCard();
    open(false);
    input.blur();
  }
  function keys(e) {
    const items = [...list.querySelectorAll("li:not([aria-disabled])")];
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (list.hidden) {
        open(true);
        fill("");
        return;
      }
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
  const pasted = h("textarea", {
    id: "config",
    rows: 6,
    spellcheck: "false",
    "aria-label": "config.json of a model, or a file of mowich capture",
    placeholder: '{"model_type": "llama", "hidden_size": 4096, ...}',
  });
  const wrong = h("p", { class: "wrong", id: "wrong-model" });
  const opened = h("input", {
    type: "file",
    id: "model-file",
    accept: ".json",
    onchange: async () => {
      const [file] = opened.files;
      if (!file) return;
      wrong.textContent = file.size > MOST ? tooLong(file.size) : "";
      if (file.size > MOST) return;
      pasted.value = await file.text();
      use.click();
    },
  });
  const use = h(
    "button",
    {
      type: "button",
      class: "small",
      onclick: async () => {
        wrong.textContent = "";
        try {
          if (pasted.value.length > MOST) throw new Error(tooLong(pasted.value.length));
          const config = JSON.parse(pasted.value);
          const sized = (await post("/api/model", { model: config })).result;
          change({
            config,
            model: String(config.schema ? config.name : (config._name_or_path ?? config.model_type ?? "pasted"))
              .split("/")
              .pop(),
          });
          input.value = shown();
          $("model-card").replaceChildren(
            h("div", {}, h("dt", {}, "parameters"), h("dd", {}, billions(sized.params))),
            h("div", {}, h("dt", {}, "active for a token"), h("dd", {}, billions(sized.params_active))),
          );
        } catch (error) {
          wrong.textContent = error instanceof SyntaxError ? `not JSON: ${error.message}` : error.message;
        }
      },
    },
    "Use this model",
  );
  return h(
    "div",
    { class: "field model" },
    h("label", { for: "model" }, "Model ", h("kbd", {}, "/")),
    input,
    list,
    h("dl", { class: "card", id: "model-card" }, card()),
    wrong,
    h(
      "details",
      {},
      h("summary", {}, "Paste a config.json, or a model captured from its code"),
      pasted,
      h("label", { class: "soft", for: "model-file" }, "or open the file "),
      opened,
      use,
    ),
  );
}
