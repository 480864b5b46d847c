// The right pane: why the chosen row is what it is, in words of the server; how sure, on a click. A number that
// is clicked is explained here too.

import { $, bytes, h, number } from "./dom.js";
import { post } from "./api.js";
import { mark } from "./words.js";
import { dots, main } from "./table.js";
import * as drawer from "./explain.js";
import { skeleton, waiting } from "./waiting.js";

const percent = (x) => `${x < 0.0095 && x > 0 ? "<1" : Math.round(100 * x)}%`;
const seconds = (s) => (s >= 1 ? `${number(s)} s` : s >= 1e-3 ? `${number(s * 1e3)} ms` : `${number(s * 1e6)} µs`);
const signed = (share) => `${share >= 0 ? "+" : "−"}${number(Math.abs(100 * share), 2)}%`;

/** A bar of parts, as wide as the pane; widths are set as properties, which the policy of the page allows. */
function bar(parts, label) {
  const total = parts.reduce((a, [, value]) => a + value, 0) || 1;
  return h(
    "div",
    { class: "stack", role: "img", "aria-label": label },
    parts.map(([name, value]) => {
      const made = h("span", {
        class: `part ${name.replaceAll(" ", "-")}`,
        title: `${name} ${percent(value / total)}`,
      });
      made.style.flexGrow = String((100 * Math.max(0, value)) / total); // below 1 in sum they would not fill it
      return made;
    }),
  );
}

/** One time in its five groups, each with its parts in words. */
function timeOf(time, total, row, explain) {
  const groups = time.groups.filter((g) => g.value > 0);
  const sum = groups.reduce((a, g) => a + g.value, 0) || 1;
  return h(
    "section",
    { class: "time" },
    h(
      "h3",
      {},
      time.title,
      " ",
      h(
        "button",
        {
          type: "button",
          class: "number",
          "data-metric": `${row.system}.${time.metric}`,
          title: "Why this number",
          onclick: (e) => explain(row, `${row.system}.${time.metric}`, e.currentTarget),
        },
        seconds(total),
      ),
    ),
    !groups.length
      ? h("p", { class: "soft" }, "Prompt, queue and moving the cache are one number here.")
      : bar(
          groups.map((g) => [g.name, g.value]),
          `${time.title}: ${groups.map((g) => `${g.name} ${percent(g.value / sum)}`).join(", ")}`,
        ),
    h(
      "ul",
      { class: "groups" },
      groups.map((g) =>
        h(
          "li",
          {},
          h(
            "details",
            {},
            h(
              "summary",
              {},
              h("span", { class: `key ${g.name}`, "aria-hidden": "true" }),
              h("span", { class: "what" }, g.name),
              h("span", { class: "share" }, percent(g.value / sum)),
            ),
            h(
              "dl",
              { class: "facts" },
              g.parts
                .filter(([, value]) => value > 1e-6 * sum)
                .map(([words, value]) => h("div", {}, h("dt", {}, words), h("dd", {}, seconds(value)))),
            ),
          ),
        ),
      ),
    ),
  );
}

function memoryOf(parts, capacity) {
  const used = parts.reduce((a, [, v]) => a + v, 0);
  const over = used > capacity; // red where more is needed than there is
  const meter = h("meter", {
    min: 0,
    max: capacity,
    value: used,
    ...(over ? { low: 0.5 * capacity, high: 0.9 * capacity, optimum: 0 } : {}),
    "aria-label": `memory, ${percent(used / capacity)} used`,
  });
  return h(
    "section",
    {},
    h("h3", {}, "Memory of a device"),
    h(
      "p",
      {},
      over ? `${bytes(used)} needed, ${bytes(capacity)} usable.` : `${bytes(used)} of ${bytes(capacity)} usable.`,
    ),
    meter,
    h(
      "details",
      {},
      h("summary", {}, "What takes it"),
      h(
        "dl",
        { class: "facts" },
        parts.map(([words, value]) => h("div", {}, h("dt", {}, words), h("dd", {}, bytes(value)))),
      ),
    ),
  );
}

/** What would change the answer: facts whose ranges move it most, and prices at which it turns. */
function movesOf(row, why) {
  const lines = [];
  if (row.breakeven_usd_per_chip_h?.value)
    lines.push(
      `Its price: at $${number(row.breakeven_usd_per_chip_h.value)} a chip-hour (` +
        `${number(row.breakeven_usd_per_chip_h.low)}–${number(row.breakeven_usd_per_chip_h.high)}) it costs ` +
        `as much as the best other row.`,
    );
  if (row.hand_tuned_step_s?.value && row.step_s?.value)
    lines.push(
      `Hand-tuned kernels: a step of ${seconds(row.hand_tuned_step_s.value)} in place of ` +
        `${seconds(row.step_s.value)}.`,
    );
  for (const [words, low, high] of why.moves ?? [])
    lines.push(
      `${words[0].toUpperCase()}${words.slice(1)}: ${signed(low)} to ${signed(high)} of the time within its range.`,
    );
  return lines.length
    ? h(
        "section",
        {},
        h("h3", {}, "What would change it"),
        h(
          "ul",
          { class: "moves" },
          lines.map((text) => h("li", {}, text)),
        ),
      )
    : "";
}

let deeper = null; // {body, view}: what takes a second more, for the question that it was asked for

/** Rows of a table of the server that speak of one system: in the first column, or in the first words. */
const rowsOf = (table, system) =>
  table.rows
    .map((r) => r.map((c) => (Array.isArray(c) ? c[0] : c)))
    .filter((r) => r[0] === system || r[0].startsWith(`${system}.`) || r[0].startsWith(`${system} `));

function sureness(view, system, training) {
  if (!training)
    return [
      h(
        "p",
        {},
        "Measured runs like these are drawn hollow in the first picture, where there are any. Errors of " +
          "served runs stand under Accuracy.",
      ),
    ];
  const near = view.tables.find((t) => /nearest measured/.test(t.title));
  const rows = near ? rowsOf(near, system) : [];
  if (!rows.length) return [h("p", {}, "No measured point is known that is like this row.")];
  return rows.map((r) =>
    r[1] === "none was published"
      ? h("p", {}, "No step on this chip, or on one of its maker, was published.")
      : h(
          "dl",
          { class: "facts near" },
          near.head.slice(1).map((name, i) => h("div", {}, h("dt", {}, name), h("dd", {}, r[i + 1]))),
        ),
  );
}

/** The row, the reasons, and a button for how sure it is. shown: {answer, body}; act: explains a metric;
 * more(view): shows the rest below the table. */
export function show(row, place, shown, act, more) {
  const { answer, body } = shown;
  const [box, why] = [drawer.boxes()[0], answer.view.whys[place]];
  const own = shown;
  const sure = h("div", { class: "sure", "aria-live": "polite" });
  const ask = h(
    "button",
    {
      type: "button",
      class: "small",
      id: "deepen",
      onclick: async () => {
        ask.disabled = true;
        sure.replaceChildren(skeleton(3));
        const done = waiting("deepen", sure, "Looking for measured points");
        try {
          if (deeper?.body !== body) deeper = { body, view: (await post("/api/deepen", body)).view };
          done();
          if (own.body !== body || !sure.isConnected) return;
          sure.replaceChildren(...sureness(deeper.view, row.system, Boolean(row.step_s)));
          more(deeper.view);
        } catch (error) {
          done(false);
          sure.replaceChildren(h("p", { class: "refused" }, error.message));
        }
        ask.disabled = false;
      },
    },
    "How sure is it?",
  );
  if (deeper?.body === body) sure.replaceChildren(...sureness(deeper.view, row.system, Boolean(row.step_s)));
  const estimate = main(row);
  box.replaceChildren(
    h("h2", {}, mark(row.system_id), row.system),
    h(
      "p",
      { class: "soft" },
      `${row.display}. ${row.chips_used.toLocaleString("en-US")}` +
        ` of ${row.chips_requested.toLocaleString("en-US")} chips` +
        `${row.devices_per_chip > 1 ? `, ${row.devices_per_chip} devices each` : ""}.` +
        `${why.price ? ` Price: ${why.price}.` : ""}`,
    ),
    row.reason ? h("p", { class: "warning" }, row.reason) : "",
    why.binds ? h("p", { class: "binding" }, h("strong", {}, "Binds. "), why.binds) : "",
    ...why.times.map((t) => timeOf(t, row[t.metric].value, row, act)),
    ...why.plans.map((p) =>
      h(
        "section",
        { class: "plan" },
        h("h3", {}, p.title),
        h(
          "ul",
          {},
          p.phrases.map(([word, text]) => h("li", {}, h("strong", {}, word), `: ${text}`)),
        ),
      ),
    ),
    why.memory.length && row.memory_capacity_B ? memoryOf(why.memory, row.memory_capacity_B) : "",
    movesOf(row, why),
    estimate?.value
      ? h(
          "section",
          {},
          h("h3", {}, "How sure"),
          h(
            "p",
            {},
            dots(why.sure, estimate.grade),
            ` grade ${estimate.grade}; the 90% range is ${number(estimate.low / estimate.value)} to ` +
              `${number(estimate.high / estimate.value)} times the value.`,
          ),
          ask,
          sure,
        )
      : "",
  );
}
