// Compare and Serve: the live answer. While a slider moves a training comparison is first searched near the plans shown, which says so
// (complete: false), then whole; a stale answer dims and stays until the next one is there.

import { $, download, h, number } from "./dom.js";
import { Refused, get, page, post } from "./api.js";
import { ask, state, toYaml } from "./state.js";
import { show as showCharts } from "./charts.js";
import { wrong } from "./form.js";
import { notesOf, pageOf } from "./pages.js";
import * as drawer from "./explain.js";

export const shown = { answer: null, body: null, row: 0, ms: 0 };

let running = null;
let later = 0;
let lastFull = Infinity; // ms that the last whole search took
let whole = ""; // its question

const WAIT_FULL = 220; // ms that a slider rests before the whole search
const QUICK = 120; // a whole search quicker than this needs no first look

function near() {
  const rows = shown.answer?.result.rows ?? [];
  const out = {};
  for (const r of rows) if (r.plan && state.on.includes(r.system)) out[r.system] = Object.fromEntries(["tp", "pp", "ep", "cp", "micro_batch", "precision"].map((k) => [k, r.plan[k]]));
  return out;
}

/** Ask again. `live`: a slider moves. */
export function refresh(live = false) {
  clearTimeout(later);
  running?.abort();
  const body = ask();
  const same = shown.body && JSON.stringify(shown.body.model) === JSON.stringify(body.model) && Boolean(shown.body.train) === Boolean(body.train);
  stale(true);
  if (live && body.train && same && lastFull > QUICK && Object.keys(near()).length) {
    send({ ...body, near: near() }, body).then((done) => {
      if (done) later = setTimeout(() => send(body, body), WAIT_FULL);
    });
  } else send(body, body);
}

/** Ask and show; true where an answer came and is shown. */
async function send(body, asked) {
  running?.abort();
  const own = new AbortController();
  running = own;
  const begin = performance.now();
  try {
    const answer = await post("/api/compare", body, own.signal);
    if (own.signal.aborted) return false;
    wrong([]);
    if (!body.near && whole !== (whole = JSON.stringify(body))) lastFull = performance.now() - begin; // asked again, it is answered from a cache
    accept(answer, asked, begin);
    return true;
  } catch (error) {
    if (own.signal.aborted || error.name === "AbortError") return false;
    const lines = error instanceof Refused ? wrong(error.errors).map((e) => e.line) : [`no answer: ${error.message}`];
    $("status").replaceChildren(h("div", { class: "refused" }, h("strong", {}, "Not computed. "), lines.length ? lines.join("; ") : "See the field marked on the left.", " Below is the last answer."));
    $("centre").setAttribute("aria-busy", "false");
    return false;
  }
}

/** The finished comparison of an empty page. */
export async function first() {
  const begin = performance.now();
  const answer = await get("/first.json");
  whole = JSON.stringify(ask());
  accept(answer, ask(), begin);
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
  $("view").classList.toggle("stale", yes);
  $("headline").classList.toggle("stale", yes);
  $("centre").setAttribute("aria-busy", String(yes));
}

// ---- tables ----------------------------------------------------------------------------------------------------------------------------

const TRAIN = [
  ["step", "step_s", 1, "s"], ["days", "days", 1, ""], ["$/Mtok", "usd_per_mtok", 1, ""], ["MFU", "mfu", 100, "%"], ["memory", "memory_B", 1, "GiB"], ["J/token", "J_per_token", 1, ""], ["goodput", "goodput", 100, "%"],
  ["tokens/s/chip", "tokens_per_s_per_chip", 1, ""], ["break-even $/chip/h", "breakeven_usd_per_chip_h", 1, ""],
];
const SERVE = [
  ["$/Mtok", "usd_per_mtok", 1, ""], ["tokens/s/chip", "tokens_per_s_per_chip", 1, ""], ["TTFT", "ttft_s", 1e3, "ms"], ["TPOT", "tpot_s", 1e3, "ms"], ["tokens/s/user", "tokens_per_s_per_user", 1, ""], ["memory", "memory_B", 1, "GiB"], ["J/token", "J_per_token", 1, ""],
];

export function planWords(p) {
  if (!p) return "–";
  const degrees = ["tp", "pp", "vpp", "dp", "cp", "ep"].filter((k) => p[k] > 1 || k === "dp").map((k) => `${k}${p[k]}`);
  return [...degrees, p.zero ? `zero${p.zero}` : "", `mb${p.micro_batch}`, p.recompute && p.recompute !== "none" ? `recompute ${p.recompute}` : "", p.precision].filter(Boolean).join(" ");
}

export function serveWords(r) {
  if (!r.decode) return "–";
  const words = (p) => `${["tp", "pp", "dp", "cp", "ep"].filter((k) => p[k] > 1 || k === "tp").map((k) => `${k}${p[k]}`).join(" ")} ${p.weights ?? p.precision}/${p.kv}`;
  return r.mode === "aggregated" ? `${r.replicas.decode} × (${words(r.decode)})` : `${r.replicas.prefill}P × (${words(r.prefill)}) + ${r.replicas.decode}D × (${words(r.decode)})`;
}

function number_(row, key, title, ...content) {
  return h("button", { type: "button", class: "number", "data-metric": `${row.system}.${key}`, title: `${title}. Click: why`,
    onclick: (event) => { choose(row); drawer.explain(shown.body, `${row.system}.${key}`, event.currentTarget); } }, ...content);
}

function memory(row) {
  const used = Object.values(row.memory_B ?? {}).reduce((a, b) => a + b, 0);
  return h("td", {}, number_(row, "memory_B", "memory of a device", h("span", { class: "value" }, number(used / 2 ** 30)), h("span", { class: "range" }, `of ${number(row.memory_capacity_B / 2 ** 30)}`)));
}

/** One cell. mark: "best", "close" or ""; beside: a word that stands below the number. */
function cell(row, key, scale, mark, beside) {
  if (key === "memory_B") return memory(row);
  const e = row[key];
  if (!e || e.value === null || e.value === undefined) return h("td", { class: "unknown", title: e?.reason ?? "unknown" }, h("span", { class: "sr" }, `unknown: ${e?.reason ?? ""}`), h("span", { "aria-hidden": "true" }, "?"));
  const range = e.high > e.low ? `${number(e.low * scale)}–${number(e.high * scale)}` : "";
  const button = number_(row, key, `grade ${e.grade}${range ? `; 90% range ${range}` : ""}`, h("span", { class: "value" }, number(e.value * scale)), range ? h("span", { class: "range" }, range) : null, beside ? h("span", { class: "range" }, beside) : null);
  button.dataset.value = String(e.value);
  return h("td", { class: mark }, button, mark === "best" ? h("span", { class: "tick", title: "best" }, " ✓") : mark === "close" ? h("span", { class: "tick", title: "its range overlaps with the best" }, " ~") : null);
}

/** The table of answers. view: marks and words of the server, which are those of the command line. */
function table(rows, training, view) {
  const columns = training ? TRAIN : SERVE;
  const chips = view.beside.chips;
  const head = ["System and plan", ...(chips ? ["chips, used/paid for"] : []), ...columns.map(([name, , , unit]) => (unit ? `${name}, ${unit}` : name)), "Grade", "Binds"];
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Answers" }, h("table", { class: "answers" }, h("caption", { class: "sr" }, "One row a system; each number is a button that explains it"),
    h("thead", {}, h("tr", {}, head.map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, rows.map((r, i) => {
      const main = r[training ? "step_s" : "tpot_s"];
      const words = training ? planWords(r.plan) : serveWords(r);
      const name = h("th", { scope: "row" }, h("button", { type: "button", class: "system", "aria-pressed": String(i === shown.row), onclick: () => choose(r) }, h("span", { class: `mark ${vendor(r.system_id)}`, "aria-hidden": "true" }), r.system, r.estimated ? " (est.)" : ""),
        words === "–" ? "" : h("span", { class: "plan" }, words), main?.value !== null && r.reason ? h("span", { class: "plan warning" }, r.reason) : "");
      const attributes = { class: `${i === shown.row ? "chosen" : ""} ${r.feasible === false ? "infeasible" : ""}`, "data-system": r.system };
      if (!main || main.value === null) return h("tr", attributes, name, chips ? h("td", {}, chips[i]) : "", h("td", { class: "reason", colspan: columns.length + 1 }, r.reason ?? "no plan fits"), h("td", { class: "binds" }, r.binds));
      return h("tr", attributes, name, chips ? h("td", {}, chips[i]) : "", columns.map(([, key, scale]) => cell(r, key, scale, view.marks[key]?.[i] ?? "", key === "usd_per_mtok" ? view.beside.price_terms[i] : "")), h("td", {}, h("span", { class: `grade ${main.grade}` }, main.grade)), h("td", { class: "binds" }, r.binds));
    }))));
}

export const vendor = (id) => (/^(trn|inf)/.test(id) ? "aws" : /^(tpu|ironwood)/.test(id) ? "google" : /^(a100|h100|h200|b200|b300|gb200|gb300|gb|a10|l40|rtx)/.test(id) ? "nvidia" : "other");

/** What takes a second more, on a click; it is dropped when the question changes. */
async function deepen() {
  const body = shown.body;
  $("deepen").disabled = true;
  try {
    const more = await post("/api/deepen", body);
    if (shown.body === body && $("deeper")) pageOf($("deeper"), more.view, { explain: (metric, from) => drawer.explain(body, metric, from) });
  } catch (error) {
    if ($("deeper")) $("deeper").replaceChildren(h("p", { class: "refused" }, error.message));
  }
  if ($("deepen")) $("deepen").disabled = false;
}

/** Charts; of those of one system only the chosen one's. */
function draw() {
  const { answer } = shown;
  const system = answer.result.rows[shown.row]?.system;
  showCharts($("charts"), answer.view.charts.filter((c) => !/^What moves .+ most$/.test(c.title) || c.title.endsWith(` ${system} most`)));
}

function choose(row) {
  const before = shown.row;
  shown.row = shown.answer.result.rows.indexOf(row);
  if (shown.row !== before) draw();
  drawer.card(row, shown.answer.result);
  document.querySelectorAll("table.answers tbody tr").forEach((tr) => {
    const own = tr.dataset.system === row.system;
    tr.classList.toggle("chosen", own);
    tr.querySelector("button.system")?.setAttribute("aria-pressed", String(own));
  });
}

export function render() {
  const { answer } = shown;
  if (!answer) return;
  const result = answer.result;
  const training = result.inputs.task !== "serve" && "tokens" in result.inputs;
  if (shown.row >= result.rows.length) shown.row = 0;
  $("headline").textContent = answer.view.headline || "No system has a plan.";
  $("status").replaceChildren(
    result.complete === false ? h("p", { class: "soft" }, "Searched near the last plans; the whole search follows.") : "",
    ...[...(answer.notes ?? []), ...(result.warnings ?? [])].filter((w) => !w.startsWith("searched only near")).map((w) => h("p", { class: "note" }, w)),
  );
  let box = $("compare-box");
  if (!box) {
    box = h("div", { id: "compare-box" }, h("dl", { class: "strip", id: "strip" }), h("div", { id: "table" }), h("div", { class: "charts", id: "charts" }), h("div", { id: "notes" }), h("div", { class: "row" }, h("button", { type: "button", class: "small", id: "deepen", onclick: deepen }, "What would change the answer, scaling, nearest measured points")), h("div", { id: "deeper" }));
    $("view").replaceChildren(box);
  }
  if (shown.deepened !== shown.body) $("deeper").replaceChildren();
  shown.deepened = shown.body;
  $("strip").replaceChildren(...answer.view.assumptions.filter(([, v]) => v).map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v))));
  const scroll = $("table").firstChild?.scrollLeft ?? 0;
  const focus = document.activeElement?.dataset?.metric;
  $("table").replaceChildren(table(result.rows, training, answer.view));
  $("table").firstChild.scrollLeft = scroll;
  $("notes").replaceChildren(notesOf(answer.view));
  if (focus) $("table").querySelector(`[data-metric="${CSS.escape(focus)}"]`)?.focus();
  draw();
  stale(false);
  const row = result.rows[shown.row];
  if (row) drawer.card(row, result);
}

// ---- what can be taken away ------------------------------------------------------------------------------------------------------------

export const take = {
  json: () => download("mowich.json", `${JSON.stringify(shown.answer.result, null, 1)}\n`, "application/json"),
  yaml: () => download("scenario.yaml", toYaml(), "application/yaml"),
  html: async () => download("mowich.html", await page("/api/report", shown.body), "text/html"),
  command: () => shown.answer.command,
};

