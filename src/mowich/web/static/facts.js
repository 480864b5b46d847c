// Facts side by side: every number of several chips with its grade; rows that differ are marked; a click shows
// the source.

import { $, h, head } from "./dom.js";
import { get } from "./api.js";
import { state } from "./state.js";
import { skeleton } from "./waiting.js";
import * as drawer from "./explain.js";

let only = false;
let words = "";
let data = null;

export const take = {};

export async function show() {
  head("Facts side by side");
  $("status").replaceChildren();
  const names = [...new Set(state.on.map((s) => s.split(/[:*]/)[0]))];
  const view = $("view");
  if (!view.querySelector("table.side")) view.replaceChildren(skeleton(9));
  data = await get(`/api/facts/side?${names.map((n) => `name=${encodeURIComponent(n)}`).join("&")}`);
  const filter = h("input", {
    type: "search",
    id: "fact-words",
    value: words,
    "aria-label": "Filter facts",
    placeholder: "filter: memory, bandwidth, power",
    oninput: () => {
      words = filter.value;
      fill();
    },
  });
  const differ = h("input", {
    type: "checkbox",
    checked: only,
    onchange: () => {
      only = differ.checked;
      fill();
    },
  });
  view.replaceChildren(
    h(
      "p",
      { class: "soft" },
      "The systems are those of the question. A grade stands behind each value: A vendor document, B " +
        "independent measurement, C derived, D estimate. Rows in which they differ are marked ≠; values " +
        "other than the first system's are shaded. Click a value for its source.",
    ),
    h("div", { class: "row" }, filter, h("label", {}, differ, " only what differs")),
    h("div", { id: "side" }),
  );
  fill();
  $("centre").setAttribute("aria-busy", "false");
}

/** A value with its range below it: "1643 TFLOP/s (1006 TFLOP/s .. 2684 TFLOP/s)" says its unit once. */
function valued(shown) {
  const found =
    /^(\S+) (.+) \((\S+) \2 \.\. (\S+) \2\)$/.exec(shown) ?? /^(\S+)( ?)\((\S+) \.\. (\S+)\)$/.exec(shown);
  if (!found) return h("span", { class: "value" }, shown);
  const [, value, unit, low, high] = found;
  return [h("span", { class: "value" }, `${value} ${unit}`.trim()), h("span", { class: "range" }, `${low}–${high}`)];
}

function fill() {
  const result = data.result;
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let kind = "";
  const body = [];
  for (const row of result.rows) {
    const values = new Set(row.facts.map((f) => (f && f.shown !== "?" ? f.shown : "")));
    const differs = values.size > 1;
    if ((only && !differs) || !wanted.every((w) => row.field.toLowerCase().includes(w))) continue;
    const parts = row.field.split(".");
    const group = parts.slice(0, 2).join(" · ").replaceAll("_", " ");
    if (group !== kind && parts.length > 2)
      body.push(
        h(
          "tr",
          { role: "row", class: "group" },
          h("th", { colspan: result.columns.length + 1, scope: "colgroup", role: "rowheader" }, group),
        ),
      );
    kind = group;
    body.push(
      h(
        "tr",
        { role: "row", class: differs ? "differs" : "" },
        h(
          "th",
          { scope: "row", role: "rowheader", title: row.field },
          differs ? h("span", { class: "mark-differs", title: "they differ" }, "≠ ") : "",
          parts
            .slice(parts.length > 2 ? 2 : 1)
            .join(".")
            .replaceAll("_", " "),
        ),
        row.facts.map((f, i) =>
          f
            ? h(
                "td",
                {
                  role: "cell",
                  "data-label": result.columns[i].name,
                  class: i && f.shown !== "?" && f.shown !== row.facts[0]?.shown ? "differs" : "",
                },
                h(
                  "button",
                  {
                    type: "button",
                    class: "number",
                    "data-path": f.path,
                    title: [f.title, f.locator, f.date].filter(Boolean).join(", "),
                    onclick: (e) => drawer.fact(f, e.currentTarget),
                  },
                  valued(f.shown),
                  f.grade ? h("span", { class: `grade ${f.grade}` }, f.grade) : "",
                ),
              )
            : h("td", { role: "cell", "data-label": result.columns[i].name, class: "unknown" }, "–"),
        ),
      ),
    );
  }
  if (!body.length)
    return $("side").replaceChildren(
      h(
        "p",
        { class: "soft" },
        wanted.length
          ? `No fact has the words "${words.trim()}"${only ? " and differs" : ""}.`
          : "These systems do not differ.",
      ),
    );
  return $("side").replaceChildren(
    h(
      "div",
      { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Facts side by side" },
      h(
        "table",
        { role: "table", class: "side records" },
        h(
          "thead",
          { role: "rowgroup" },
          h(
            "tr",
            { role: "row" },
            h(
              "th",
              {
                scope: "col",
                role: "columnheader",
                title: "What is said of each system; the path is that of mowich facts show",
              },
              "fact",
            ),
            result.columns.map((c) =>
              h("th", { scope: "col", role: "columnheader", title: c.display ?? c.name }, c.name),
            ),
          ),
        ),
        h("tbody", { role: "rowgroup" }, body),
      ),
    ),
    h(
      "p",
      { class: "soft" },
      `${body.filter((r) => r.className !== "group").length} of ${result.rows.length} facts; facts ` +
        `${result.facts_hash}.`,
    ),
  );
}
