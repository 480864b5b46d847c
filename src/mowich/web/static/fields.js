// Fields of a question as the schema of the server tells them: an input each, and what is wrong beside it.

import { $, h } from "./dom.js";
import { Refused } from "./api.js";

const words = (key) => `${key[0].toUpperCase()}${key.slice(1)}`.replaceAll("_", " ");
const apart = (key) => (key === "set" ? ";" : ","); // a setting may have commas of its own
const shown = (value, key) =>
  value === undefined || value === null
    ? ""
    : Array.isArray(value)
      ? value.join(`${apart(key)} `)
      : typeof value === "object"
        ? Object.entries(value)
            .map(([k, v]) => `${k}=${Array.isArray(v) ? v.join("|") : v}`)
            .join(", ")
        : String(value);
const types = (field) => [field, ...(field.anyOf ?? [])].map((one) => one.type);

/** The value of a field as the server takes it; undefined where it is empty. */
export function taken(field, key, text) {
  const kinds = types(field);
  if (!text) return undefined;
  if (kinds.includes("boolean")) return text === "true";
  return kinds.includes("array")
    ? text
        .split(apart(key))
        .map((one) => one.trim())
        .filter(Boolean)
    : text;
}

/** The input of a field. own: begins its id; now: its value; put: takes another one; vocabulary: its words, where
 * the schema has none; list: of suggestions; label, hint: in the place of the key and its example; said: how a word
 * of the vocabulary is written. */
export function input(own, key, field, now, put, { vocabulary, list = null, label, hint, said = {} } = {}) {
  const id = `${own}-${key}`;
  const text = shown(now, key);
  const known = field.enum ?? vocabulary;
  const options = types(field).includes("boolean")
    ? [
        ["", "as the framework does"],
        ["true", "yes"],
        ["false", "no"],
      ]
    : known
      ? [["", "–"], ...known.map((word) => [word, said[word] ?? word])]
      : null;
  const made = options
    ? h(
        "select",
        { id, "aria-describedby": `wrong-${id}`, onchange: () => put(key, made.value) },
        options.map(([value, label]) => {
          const one = h("option", { value }, label);
          one.selected = value === text;
          return one;
        }),
      )
    : h("input", {
        type: "text",
        id,
        value: text,
        placeholder: hint ?? field.examples?.[0] ?? "",
        list,
        autocomplete: "off",
        spellcheck: "false",
        "aria-describedby": `wrong-${id}`,
        onchange: () => put(key, made.value),
      });
  return h(
    "div",
    { class: "field" },
    h("label", { for: id, title: field.description ?? "" }, label ?? words(key)),
    made,
    h("p", { class: "wrong", id: `wrong-${id}` }),
  );
}

/** What is wrong, beside the fields that it is about, and all of it in `place`. more: what is said behind it. */
export function wrong(own, place, error, more) {
  const errors = error instanceof Refused ? error.errors : [{ line: error.message }];
  clear(place);
  for (const e of errors) {
    const key = String(e.where ?? "")
      .split(/[ .]/)
      .find((part) => $(`wrong-${own}-${part}`));
    if (!key) continue;
    $(`wrong-${own}-${key}`).textContent = e.line;
    $(`${own}-${key}`)?.setAttribute("aria-invalid", "true");
    $(`${own}-${key}`)?.closest("details.fold")?.setAttribute("open", "");
  }
  place.replaceChildren(
    h(
      "div",
      { class: "refused", role: "alert" },
      h("strong", {}, "Not computed. "),
      errors.map((e) => h("p", {}, e.line)),
      more,
    ),
  );
}

export function clear(place) {
  place?.replaceChildren();
  document.querySelectorAll(".left .wrong").forEach((p) => {
    p.textContent = "";
  });
  document.querySelectorAll(".left [aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
}
