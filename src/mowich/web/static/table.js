// The table of answers: a row a system, or on a phone a card with the same fields. Heads sort; ranges stand under
// the values.

import { h, number } from "./dom.js";
import { mark, told } from "./words.js";

const GIB = 2 ** 30;
const used = (row) => Object.values(row.memory_B ?? {}).reduce((a, b) => a + b, 0);

/** key: of the row; head, unit; scale: from SI; few: shown at once, the others behind "all columns"; known: only
 * where a row has it. */
const TRAIN = [
  { key: "tokens_trained", head: "trained", unit: "T tokens", scale: 1e-12, few: true, known: true },
  { key: "step_s", head: "step", unit: "s", few: true },
  { key: "days", head: "days", few: true, known: true },
  { key: "usd_per_mtok", head: "$/Mtok", few: true },
  { key: "J_per_token", head: "J/token", few: true },
  { key: "memory_B", head: "memory", unit: "GiB", few: true },
  { key: "sure", head: "confidence", few: true },
  { key: "binds", head: "binds", few: true },
  { key: "chips", head: "chips" },
  { key: "tokens_per_s_per_chip", head: "tokens/s/chip" },
  { key: "mfu", head: "MFU", unit: "%", scale: 100 },
  { key: "goodput", head: "goodput", unit: "%", scale: 100 },
  { key: "hand_tuned_step_s", head: "step, hand-tuned", unit: "s" },
  { key: "breakeven_usd_per_chip_h", head: "break-even $/chip/h" },
  { key: "price", head: "price" },
];
const SERVE = [
  { key: "ttft_s", head: "TTFT", unit: "ms", scale: 1e3, few: true },
  { key: "tokens_per_s_per_user", head: "tokens/s/user", few: true },
  { key: "users", head: "users", few: true },
  { key: "tokens_per_s_per_chip", head: "tokens/s/chip", few: true },
  { key: "usd_per_mtok", head: "$/Mtok", few: true },
  { key: "sure", head: "confidence", few: true },
  { key: "binds", head: "binds", few: true },
  { key: "J_per_token", head: "J/token" },
  { key: "memory_B", head: "memory", unit: "GiB" },
  { key: "tpot_s", head: "TPOT", unit: "ms", scale: 1e3 },
  { key: "chips", head: "chips" },
  { key: "breakeven_usd_per_chip_h", head: "break-even $/chip/h" },
  { key: "price", head: "price" },
];

const headOf = (c) => (c.unit ? `${c.head}, ${c.unit}` : c.head);
const SYSTEM = { key: "system", head: "system" };

/** The columns that are shown. */
export const columns = (rows, training, all) =>
  (training ? TRAIN : SERVE).filter(
    (c) => (c.few || all) && (!c.known || rows.some((row) => row[c.key]?.value != null)),
  );
export const main = (row) => row.step_s ?? row.tpot_s;
const runs = (row) => Boolean(main(row)) && main(row).value !== null;

function sortValue(row, key, why) {
  if (key === "system") return row.system;
  if (key === "memory_B") return runs(row) && row.memory_capacity_B ? used(row) : null;
  if (key === "sure") return main(row)?.grade ?? null;
  if (key === "binds" || key === "price") return row[key] || null;
  if (key === "chips") return row.chips_used || row.chips_requested;
  if (key === "users") return why.users?.value ?? null;
  return row[key]?.value ?? null;
}

/** Places of rows in the order of a column; what is unknown stands last. */
export function ordered(rows, by, whys) {
  const places = rows.map((_, i) => i);
  if (!by) return places;
  return places.sort((a, b) => {
    const [x, y] = [a, b].map((i) => sortValue(rows[i], by.key, whys[i]));
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : 0) * (by.down ? -1 : 1);
  });
}

/** The row that is chosen at first: most tokens for the money, cheapest, else most tokens a chip, else the first
 * that runs. */
export function winner(rows, marks) {
  for (const key of ["tokens_trained", "usd_per_mtok", "days", "tokens_per_s_per_chip"]) {
    const at = (marks[key] ?? []).indexOf("best");
    if (at >= 0) return at;
  }
  return Math.max(0, rows.findIndex(runs));
}

const SURE = {
  measured: "constants from measurements",
  simulated: "simulated kernels",
  estimated: "formulas and estimates",
};

/** Three dots: measured, simulated, estimated; full where a share of the time rests on it. */
export function dots(sure, grade) {
  const shares = Object.entries(sure ?? {}).filter(([, share]) => share > 0.005);
  const said = shares.map(([kind, share]) => `${Math.round(100 * share)}% ${SURE[kind]}`).join(", ");
  return h(
    "span",
    { class: "dots", title: said ? `${said}; grade ${grade}` : `grade ${grade}` },
    Object.keys(SURE).map((kind) =>
      h("span", { class: `dot ${kind}${(sure?.[kind] ?? 0) > 0.005 ? " on" : ""}`, "aria-hidden": "true" }),
    ),
    h("span", { class: `grade ${grade}` }, h("span", { class: "sr" }, `${said || "no shares known"}; grade `), grade),
  );
}

/** What stands in a cell: number with its range, and its mark. act: explains a metric. */
function filled(row, column, place, view, act) {
  const { key, scale = 1 } = column;
  if (key === "binds") return [h("span", { class: "text" }, row.binds || "–")];
  if (key === "price")
    return [h("span", { class: "text", title: view.whys[place]?.price ?? "" }, view.beside.price_terms[place])];
  if (key === "chips")
    return [
      h(
        "span",
        {},
        row.chips_used && row.chips_used !== row.chips_requested
          ? `${number(row.chips_used, 7)} of ${number(row.chips_requested, 7)}`
          : number(row.chips_requested, 7),
      ),
    ];
  if (key === "sure") return runs(row) ? [dots(view.whys[place].sure, main(row).grade)] : ["–"];
  const metric = `${row.system}.${key === "users" ? "batch" : key}`; // users: explained by those of a worker
  const button = (title, ...content) =>
    h(
      "button",
      {
        type: "button",
        class: "number",
        "data-metric": metric,
        title: `${title}. Click: why`,
        onclick: (e) => act(row, metric, e.currentTarget),
      },
      ...content,
    );
  if (key === "memory_B") {
    return runs(row)
      ? [
          button(
            "memory of a device, used of usable",
            h("span", { class: "value" }, number(used(row) / GIB)),
            h("span", { class: "range" }, `of ${number(row.memory_capacity_B / GIB)}`),
          ),
        ]
      : ["–"];
  }
  if (key === "users") {
    const { users } = view.whys[place];
    return users
      ? [
          button(
            "sequences that all workers decode at once: those of a worker × workers",
            h("span", { class: "value" }, Math.round(users.value).toLocaleString("en-US")),
            users.of ? h("span", { class: "range" }, users.of) : null,
          ),
        ]
      : ["–"];
  }
  const e = row[key];
  if (e === null || e === undefined) return ["–"];
  if (e.value === null)
    return [
      h(
        "span",
        { class: "unknown", title: e.reason ?? "unknown" },
        h("span", { class: "sr" }, `unknown: ${e.reason ?? ""}`),
        h("span", { "aria-hidden": "true" }, "?"),
      ),
    ];
  const range = e.high > e.low ? `${number(e.low * scale)}–${number(e.high * scale)}` : "";
  const state = view.marks[key]?.[place] ?? "";
  const shared = state === "close" || (state === "best" && view.marks[key].includes("close"));
  const made = button(
    `grade ${e.grade}${range ? `; 90% range ${range}` : ""}`,
    h("span", { class: "value" }, number(e.value * scale)),
    state
      ? h(
          "span",
          {
            class: "tick",
            title: shared
              ? state === "best"
                ? "best, but other ranges overlap with it: not ranked"
                : "its range overlaps with the best: not ranked"
              : "best",
          },
          shared ? " ≈" : " ✓",
          h("span", { class: "sr" }, shared ? " shares the first rank" : " best"),
        )
      : null,
    range ? h("span", { class: "range" }, range) : null,
  );
  made.dataset.value = String(e.value);
  return [made];
}

const stateOf = (view, key, place) => view.marks[key]?.[place] ?? "";

function systemButton(row, announced, chosen, choose) {
  return h(
    "button",
    {
      type: "button",
      class: "system",
      "aria-pressed": String(chosen),
      title: row.display ?? row.system,
      onclick: () => choose(row),
    },
    mark(row.system_id),
    row.system,
    announced ? " (est.)" : "",
  );
}

/** The whole table. by: {key, down} or null; choose(row), explain(row, metric, from), sort(key). */
export function answersOf(rows, training, view, { chosen, by, all, choose, explain, sort }) {
  const shown = columns(rows, training, all);
  const head = (c) => {
    const now = by?.key === c.key ? (by.down ? "descending" : "ascending") : "none";
    return told(
      "th",
      { scope: "col", "aria-sort": now, class: ["binds", "system"].includes(c.key) ? "text" : null },
      headOf(c),
      h(
        "button",
        { type: "button", class: "sort", "data-sort": c.key, onclick: () => sort(c.key) },
        ...headOf(c)
          .split("/")
          .flatMap((part, i) => (i ? ["/", h("wbr"), part] : [part])),
        h("span", { "aria-hidden": "true", class: "arrow" }, now === "none" ? "" : by.down ? " ↓" : " ↑"),
      ),
    );
  };
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Answers" },
    h(
      "table",
      { class: `answers${all ? " all" : ""}` },
      h("caption", { class: "sr" }, "One row a system; each number is a button that explains it"),
      h("thead", {}, h("tr", {}, [SYSTEM, ...shown].map(head))),
      h(
        "tbody",
        {},
        ordered(rows, by, view.whys).map((i) => {
          const row = rows[i];
          const name = h("th", { scope: "row" }, systemButton(row, view.whys[i].announced, i === chosen, choose));
          const attributes = {
            class: `${i === chosen ? "chosen" : ""} ${row.feasible === false ? "infeasible" : ""}`,
            "data-system": row.system,
          };
          if (!runs(row))
            return h(
              "tr",
              attributes,
              name,
              h("td", { class: "reason", colspan: shown.length }, row.reason ?? "no plan fits"),
            );
          return h(
            "tr",
            attributes,
            name,
            shown.map((c) =>
              h("td", { class: `${stateOf(view, c.key, i)} ${c.key}` }, ...filled(row, c, i, view, explain)),
            ),
          );
        }),
      ),
    ),
  );
}

/** The same as cards, for a phone. */
export function cardsOf(rows, training, view, { chosen, by, all, choose, explain }) {
  const shown = columns(rows, training, all);
  return h(
    "ul",
    { class: "cards" },
    ordered(rows, by, view.whys).map((i) => {
      const row = rows[i];
      const fields = runs(row)
        ? h(
            "dl",
            {},
            shown.map((c) =>
              h(
                "div",
                { class: `${stateOf(view, c.key, i)} ${c.key}` },
                told("dt", {}, headOf(c), headOf(c)),
                h("dd", {}, ...filled(row, c, i, view, explain)),
              ),
            ),
          )
        : h("p", { class: "warning" }, row.reason ?? "no plan fits");
      return h(
        "li",
        { class: i === chosen ? "answer chosen" : "answer", "data-system": row.system },
        h("h3", {}, systemButton(row, view.whys[i].announced, i === chosen, choose)),
        fields,
      );
    }),
  );
}
