// What the report says of a result, in the page: tables whose heads sort, charts, notes.

import { h } from "./dom.js";
import { show as showCharts } from "./charts.js";
import { told } from "./words.js";

const words = (c) => (Array.isArray(c) ? c[0] : (c ?? ""));

/** Class of a column: numbers stand right, words left, sentences left and in lines. */
function kind(rows, i) {
  const all = rows.map((r) => words(r[i]));
  if (all.some((w) => w.length > 32)) return "text long";
  if (!all.every((w) => /^[-+~<$]*[\d?–-]|^$/.test(w))) return "text";
  // a number and what stands in brackets: below it where the table has many columns
  return all.some((w) => /\S \(/.test(w)) ? "pair" : null;
}

/** A number with its range on a line of its own. */
function ranged(text) {
  const found = /^(\S+) (\(.+\))( \S+)?$/.exec(text);
  return found ? [found[1], found[3] ?? "", " ", h("span", { class: "range" }, found[2])] : text;
}

/** A phone shows a row of many cells as a card: each cell has the name of its column. */
/** A cell is text, [text, hover], or [text, hover, metric]: the last can be explained. */
const cell = (c, explain, kinds, label) => {
  const own = { class: kinds, role: "cell", "data-label": label };
  if (!Array.isArray(c)) return h("td", own, c);
  if (c[2] && explain)
    return h(
      "td",
      own,
      h(
        "button",
        {
          type: "button",
          class: "number",
          title: c[1],
          "data-metric": c[2],
          onclick: (e) => explain(c[2], e.currentTarget),
        },
        ranged(c[0]),
      ),
    );
  return h("td", { ...own, title: c[1] || null }, c[0]);
};

/** What a cell is sorted by: its number, else its text. */
function worth(c) {
  const text = words(c).replace(/,/g, "");
  const found = /^[^\d-]{0,2}(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/.exec(text);
  return found ? Number(found[1]) : text;
}

const compared = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);

const phone = window.matchMedia("(max-width: 640px)");
const MOST_CARDS = 12;
const MOST_COLUMNS = 10; // of a table that has room; the rows of a wider one are cards on every screen

/** A phone shows few rows as cards at once, many behind a line. */
const folded = (rows, box) =>
  phone.matches && rows > MOST_CARDS ? h("details", {}, h("summary", {}, `${rows} rows`), box) : box;

/** most: rows; columns: most of a table, more are cards. */
export function tableOf(t, most = 60, explain = null, columns = MOST_COLUMNS) {
  const rows = t.rows.slice(0, most);
  if (!rows.length) return h("section", {}, t.title ? h("h2", {}, t.title) : "", h("p", { class: "soft" }, "None."));
  const kinds = t.head.map((_, i) => kind(rows, i));
  const spread = t.head.length > columns;
  const line = (r) =>
    h(
      "tr",
      { role: "row" },
      h("th", { scope: "row", role: "rowheader", class: kinds[0] }, words(r[0])),
      r.slice(1).map((c, i) => cell(c, explain, kinds[i + 1], t.head[i + 1])),
    );
  const body = h("tbody", { role: "rowgroup" }, rows.map(line));
  const heads = t.head.map((text, i) =>
    told(
      "th",
      { scope: "col", role: "columnheader", class: kinds[i], "aria-sort": "none" },
      text,
      rows.length < 3 || !text
        ? text || " "
        : h("button", { type: "button", class: "sort", onclick: () => sort(i) }, text),
    ),
  );
  function sort(i) {
    const down = heads[i].getAttribute("aria-sort") === "ascending";
    heads.forEach((e, k) => e.setAttribute("aria-sort", k === i ? (down ? "descending" : "ascending") : "none"));
    body.replaceChildren(...[...rows].sort((a, b) => compared(worth(a[i]), worth(b[i])) * (down ? -1 : 1)).map(line));
  }
  return h(
    "section",
    {},
    t.title ? h("h2", {}, t.title) : "",
    t.note ? h("p", { class: "note" }, t.note.replace("Hover or focus a number", "Point at a number")) : "",
    folded(
      rows.length,
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": t.title || "Numbers" },
        h(
          "table",
          {
            role: "table",
            class:
              [t.head.length > 6 ? "many" : "", t.head.length > 3 ? "records" : "", spread ? "spread" : ""]
                .join(" ")
                .trim() || null,
          },
          h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
          body,
        ),
      ),
    ),
    t.rows.length > most ? h("p", { class: "soft" }, `The first ${most} of ${t.rows.length} rows.`) : "",
  );
}

/** Remarks on rows and numbers, and what the answer rests on. */
export function notesOf(view) {
  return view.notes.length
    ? h(
        "details",
        { class: "notes" },
        h("summary", {}, `Notes: prices, software, what the numbers rest on (${view.notes.length})`),
        h(
          "ul",
          {},
          view.notes.map((n) => h("li", {}, n)),
        ),
      )
    : "";
}

/** The charts of an answer; of those that are of one system each only that of `system`. */
export const chartsOf = (view, system) =>
  view.charts.filter((c) => !/^What moves .+ most$/.test(c.title) || c.title.endsWith(` ${system} most`));

/** A view of the server into a box. */
export function pageOf(box, view, { tables = 20, most = 60, explain = null, strip = true, made = "" } = {}) {
  const charts = h("div", { class: "charts" });
  box.replaceChildren(
    strip
      ? h(
          "dl",
          { class: "strip" },
          view.assumptions.filter(([, v]) => v).map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v))),
        )
      : "",
    ...view.warnings.map((w) => h("p", { class: "warning" }, w)),
    ...view.tables.slice(0, 1).map((t) => tableOf(t, most, explain)),
    charts,
    ...view.tables.slice(1, tables).map((t) => tableOf(t, most, explain)),
    notesOf(view),
  );
  showCharts(charts, view.charts, made);
}
