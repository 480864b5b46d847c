// Train and Serve: the live answer. While a slider moves a training comparison is first searched near the plans
// shown, which says so (complete: false), then whole; a stale answer dims and stays until the next one is there.

import { $, download, h, head } from "./dom.js";
import { Refused, once, page, post } from "./api.js";
import { ask, change, shown, state, toYaml, trains } from "./state.js";
import { show as showCharts } from "./charts.js";
import { wrong } from "./form.js";
import { chartsOf, notesOf, pageOf, tableOf } from "./pages.js";
import { answersOf, cardsOf, winner } from "./table.js";
import { skeleton, waiting } from "./waiting.js";
import * as drawer from "./explain.js";
import * as why from "./why.js";

let running = null;
let later = 0;
let lastFull = Infinity; // ms that the last whole search took
let whole = ""; // its question
let chosen = null; // the system that the reader chose; null: the winner
let by = null; // the column that sorts
let task = null; // that both were chosen for

const WAIT_FULL = 220; // ms that a slider rests before the whole search
const BESIDE_WHY = 8; // columns of a table that has the reasons beside it
const QUICK = 120; // a whole search quicker than this needs no first look
const phone = window.matchMedia("(max-width: 640px)");
phone.addEventListener("change", () => {
  if ($("table")) table();
});

function near() {
  const rows = shown.answer?.result.rows ?? [];
  const out = {};
  for (const r of rows)
    if (r.plan && state.on.includes(r.system))
      out[r.system] = Object.fromEntries(
        ["tp", "pp", "ep", "cp", "micro_batch", "precision"].map((k) => [k, r.plan[k]]),
      );
  return out;
}

/** Whether what is shown answers the task of the tab. */
export const fits = () => Boolean(shown.body) && Boolean(shown.body.train) === trains();

/** Ask again. `live`: a slider moves. */
export function refresh(live = false) {
  clearTimeout(later);
  running?.abort();
  const body = ask();
  const same = fits() && JSON.stringify(shown.body.model) === JSON.stringify(body.model);
  if (fits()) stale(true);
  else empty();
  if (live && body.train && same && lastFull > QUICK && Object.keys(near()).length) {
    send({ ...body, near: near() }, body).then((done) => {
      if (done) later = setTimeout(() => send(body, body), WAIT_FULL);
    });
  } else send(body, body);
}

/** The skeleton of an answer that is not there yet. */
function empty() {
  head(trains() ? "One training job on several machines" : "One model served by several machines");
  $("footing").textContent = "";
  $("status").replaceChildren();
  $("view").replaceChildren(skeleton(9));
  $("centre").setAttribute("aria-busy", "true");
}

/** Ask and show; true where an answer came and is shown. */
async function send(body, asked) {
  running?.abort();
  const own = new AbortController();
  running = own;
  const begin = performance.now();
  const done = waiting(body.train ? "train" : "serve", $("status"), "Searching plans");
  try {
    const answer = await post("/api/compare", body, own.signal);
    done(!own.signal.aborted);
    if (own.signal.aborted) return false;
    wrong([]);
    // asked again, it is answered from a cache
    if (!body.near && whole !== (whole = JSON.stringify(body))) lastFull = performance.now() - begin;
    accept(answer, asked, begin);
    return true;
  } catch (error) {
    done(false);
    if (own.signal.aborted || error.name === "AbortError") return false;
    const lines = error instanceof Refused ? wrong(error.errors) : [error.message];
    $("status").replaceChildren(
      h(
        "div",
        { class: "refused", role: "alert" },
        h("strong", {}, "Not computed. "),
        lines.join("; "),
        fits() ? " Below is the last answer." : "",
      ),
    );
    if (!fits())
      $("view").replaceChildren(
        error instanceof Refused
          ? h(
              "p",
              { class: "soft" },
              "Change the question on the left: a model, one system at least, and how many chips.",
            )
          : h("button", { type: "button", class: "small", onclick: () => refresh() }, "Ask again"),
      );
    $("centre").setAttribute("aria-busy", "false");
    return false;
  }
}

function accept(answer, asked, begin) {
  Object.assign(shown, { answer, body: asked });
  render();
  shown.ms = performance.now() - begin;
  $("centre").dataset.ms = shown.ms.toFixed(1);
  $("centre").dataset.complete = String(answer.result.complete !== false);
  $("centre").dataset.answers = String(Number($("centre").dataset.answers ?? 0) + 1);
}

function stale(yes) {
  for (const id of ["view", "headline", "under"]) $(id).classList.toggle("stale", yes);
  $("centre").setAttribute("aria-busy", String(yes));
}

/** Charts; of those of one system only the chosen one's. */
function draw() {
  const { answer } = shown;
  const system = answer.result.rows[shown.row]?.system;
  showCharts($("charts"), chartsOf(answer.view, system), answer.command);
  map(answer.view.maps[shown.row]);
}

/** The machine of the chosen row, where its chips lie in one scale-up unit: chips and links. */
async function map(name) {
  const box = $("map");
  if (box.dataset.name === name) return;
  box.dataset.name = name;
  box.hidden = !name;
  if (!name) return box.replaceChildren();
  try {
    const { chart } = await once(`/api/map?name=${encodeURIComponent(name)}`);
    if (box.isConnected && box.dataset.name === name)
      showCharts(
        box,
        [chart],
        `mowich collective all-reduce --on ${name} --bytes 1MiB --out r.json && mowich report r.json --html map.html`,
      );
  } catch (error) {
    box.dataset.name = "";
    box.replaceChildren(h("p", { class: "soft" }, `No map of the machine: ${error.message}`));
  }
}

const act = (row, metric, from) => {
  choose(row, false);
  drawer.explain(shown.body, metric, from);
};

/** Show why one row is what it is. */
function choose(row, own = true) {
  const before = shown.row;
  shown.row = shown.answer.result.rows.indexOf(row);
  chosen = own || before !== shown.row ? row.system : chosen;
  if (shown.row !== before) draw();
  if (own) drawer.close();
  why.show(row, shown.row, shown, act, more);
  document.querySelectorAll("#table [data-system]").forEach((e) => {
    const is = e.dataset.system === row.system;
    e.classList.toggle("chosen", is);
    e.querySelector("button.system")?.setAttribute("aria-pressed", String(is));
  });
}

/** What takes a second more, below the answer; it is dropped when the question changes. */
function more(view) {
  const body = shown.body;
  if ($("deeper"))
    pageOf($("deeper"), view, {
      explain: (metric, from) => drawer.explain(body, metric, from),
      strip: false,
      made: `${shown.answer.command} --out r.json && mowich report r.json`,
    });
}

function sort(key) {
  by = by?.key === key ? (by.down ? null : { key, down: true }) : { key, down: false };
  table();
  $("table")
    .querySelector(`[data-sort="${CSS.escape(key)}"]`)
    ?.focus();
}

function table() {
  const { answer } = shown;
  const { rows, inputs } = answer.result;
  const place = $("table");
  const scroll = place.firstChild?.scrollLeft ?? 0;
  const focus = document.activeElement?.dataset?.metric;
  const held = place.contains(document.activeElement) && focus;
  const how = { chosen: shown.row, by, all: state.all, choose: (row) => choose(row), explain: act, sort };
  const training = inputs.task !== "serve";
  place.replaceChildren(
    phone.matches ? cardsOf(rows, training, answer.view, how) : answersOf(rows, training, answer.view, how),
  );
  place.firstChild.scrollLeft = scroll;
  if (held) place.querySelector(`[data-metric="${CSS.escape(focus)}"]`)?.focus();
}

function frame() {
  const all = h("input", {
    type: "checkbox",
    id: "all-columns",
    checked: state.all,
    onchange: () => {
      change({ all: all.checked }, true);
      document.dispatchEvent(new Event("kept"));
      table();
    },
  });
  const order = h(
    "select",
    {
      id: "order",
      "aria-label": "Sort the systems by",
      onchange: () => {
        by = order.value ? { key: order.value, down: false } : null;
        table();
      },
    },
    [
      ["", "as asked"],
      ["usd_per_mtok", "cost"],
      [trains() ? "days" : "tokens_per_s_per_chip", trains() ? "days" : "tokens/s/chip"],
      ["J_per_token", "energy"],
      ...(trains() ? [] : [["ttft_s", "TTFT"]]),
    ].map(([value, text]) => h("option", { value }, text)),
  );
  return h(
    "div",
    { id: "answer-box", "data-task": trains() ? "train" : "serve" },
    h("div", { id: "load-answer" }),
    h("div", { id: "table" }),
    h(
      "div",
      { class: "row under" },
      h("label", {}, all, " All columns"),
      h("label", { class: "phone-only" }, "Sort by ", order),
      h(
        "p",
        { class: "legend" },
        [
          [h("span", { class: "tick" }, "✓"), " best"],
          [h("span", { class: "tick" }, "≈"), " ranges overlap, not ranked"],
          ...["measured", "simulated", "estimated"].map((kind) => [
            h("span", { class: "dots" }, h("span", { class: `dot ${kind} on` })),
            ` ${kind}`,
          ]),
        ].map((pair) => h("span", {}, pair)),
      ),
    ),
    h("div", { id: "more-tables" }),
    h("div", { class: "charts", id: "charts" }),
    h("div", { class: "charts", id: "map", hidden: true }),
    h("div", { id: "deeper" }),
    h("div", { id: "notes" }),
  );
}

export function render() {
  const { answer } = shown;
  if (!answer) return;
  const { result, view } = answer;
  if (task !== (task = result.inputs.task)) chosen = by = null;
  const at = chosen === null ? -1 : result.rows.findIndex((r) => r.system === chosen);
  shown.row = at >= 0 ? at : winner(result.rows, view.marks);
  if (at < 0) chosen = null;
  head(view);
  $("footing").textContent = view.footing;
  $("status").replaceChildren(
    result.complete === false
      ? h("p", { class: "soft" }, "Searched near the last plans; the whole search follows.")
      : "",
    ...(answer.notes ?? []).map((w) => h("p", { class: "note" }, w)),
  );
  if ($("answer-box")?.dataset.task !== (trains() ? "train" : "serve")) $("view").replaceChildren(frame());
  if (shown.deepened !== shown.body) ["deeper", "load-answer"].forEach((id) => $(id).replaceChildren()); // of another
  shown.deepened = shown.body;
  table();
  const body = shown.body;
  $("more-tables").replaceChildren(
    ...view.tables.map((t) =>
      tableOf(t, undefined, (metric, from) => drawer.explain(body, metric, from), BESIDE_WHY),
    ),
  );
  $("notes").replaceChildren(
    notesOf({
      notes: [...view.notes, ...(result.warnings ?? []).filter((w) => !w.startsWith("searched only near"))],
    }),
  );
  draw();
  stale(false);
  const row = result.rows[shown.row];
  if (row) why.show(row, shown.row, shown, act, more);
}

/** The number that `e` explains where none has the focus: the main one of the chosen row. */
export function mainMetric() {
  const row = shown.answer.result.rows[shown.row];
  return `${row.system}.${row.step_s ? "step_s" : "tpot_s"}`;
}

// ---- what can be taken away --------------------

export const take = {
  json: () => download("mowich.json", `${JSON.stringify(shown.answer.result, null, 1)}\n`, "application/json"),
  yaml: () => download("scenario.yaml", toYaml(), "application/yaml"),
  html: async () => download("mowich.html", await page("/api/report", shown.body), "text/html"),
  command: () => shown.answer?.command,
};
