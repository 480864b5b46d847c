// Serve: how many chips of the chosen system carry a load. It is played out request by request, so it takes
// seconds and is asked on a click.

import { $, estimate, h, number } from "./dom.js";
import { Refused, post } from "./api.js";
import { ask, shown, state } from "./state.js";
import { pageOf } from "./pages.js";
import { choice } from "./question.js";
import { skeleton, waiting } from "./waiting.js";
import { told } from "./words.js";
import * as drawer from "./explain.js";

/** The fields of a load in requests, and in users. */
const FIELDS = {
  rate: [["rate", "Requests", "20rps"]],
  users: [
    ["users", "Users who ask without end", "200"],
    ["think", "Time between an answer and what follows", "none"],
  ],
};
const LIMITS = [
  ["p99_ttft", "99 of 100 see their first token within", "none"],
  ["p99_tpot", "99 of 100 wait per token at most", "none"],
];
const fields = () => [...FIELDS[state.load], ...LIMITS];
const kept = () => document.dispatchEvent(new Event("kept"));

const field = ([key, label, example]) =>
  h(
    "div",
    { class: "field" },
    h("label", { for: `load-${key}` }, label),
    h("input", {
      type: "text",
      id: `load-${key}`,
      value: state[key],
      placeholder: example,
      autocomplete: "off",
      spellcheck: "false",
      "aria-describedby": `wrong-load-${key}`,
      onchange: (e) => {
        state[key] = e.target.value.trim();
        kept();
      },
    }),
    h("p", { class: "wrong", id: `wrong-load-${key}` }),
  );

/** The fields and the button. */
export function loadField() {
  const box = h("div", {}, fields().map(field));
  const wrong = h("p", { class: "wrong", id: "wrong-load" });
  const go = h(
    "button",
    { type: "button", class: "small", id: "load-find", onclick: () => find(go, wrong) },
    "Find the smallest",
  );
  const words = [
    ["rate", "requests"],
    ["users", "users"],
  ];
  return [
    h("p", { class: "note" }, "Plays out requests on the system that is chosen in the table: some seconds."),
    choice("load-by", "The load in", words, state.load, (by) => {
      state.load = by;
      kept();
      box.replaceChildren(...fields().map(field));
    }),
    box,
    wrong,
    h("div", { class: "row" }, go),
  ];
}

const SEEN = [
  ["chips", "chips_used", (value) => number(value, 7)],
  ["users", "in_flight", (value) => (value === null ? "?" : Math.round(value).toLocaleString("en-US"))],
  ["TTFT p99", "p99_ttft_s"],
  ["TPOT p99", "p99_tpot_s"],
  ["TTFT", "ttft_s"],
  ["TPOT", "tpot_s"],
];
const ms = (e) => (e.value === null ? "?" : `${estimate(e, 1e3)} ms`);

/** What users see of the smallest deployment, and how many are served at once; nothing where none keeps the limits. */
function seen(plans, explain) {
  const at = plans.findIndex((p) => p.is_smallest && p.feasible);
  if (at < 0) return "";
  const button = (key, words = ms) =>
    h(
      "button",
      {
        type: "button",
        class: "number",
        "data-metric": `${at + 1}.${key}`,
        title: "Click: why",
        onclick: (e) => explain(`${at + 1}.${key}`, e.currentTarget),
      },
      words(plans[at][key]),
    );
  return h(
    "dl",
    { class: "strip", id: "load-seen" },
    SEEN.map(([head, key, words]) => h("div", {}, told("dt", {}, head, head), h("dd", {}, button(key, words)))),
  );
}

/** Put what is wrong beside the fields of the load, else below them all. */
function refuse(error, wrong) {
  const rest = [];
  for (const e of error instanceof Refused ? error.errors : [{ line: error.message }]) {
    const [key] = fields().find(([name]) => e.where === `serve.${name}`) ?? [];
    if (!key) rest.push(e.line);
    else $(`wrong-load-${key}`).textContent = e.line;
    if (key) $(`load-${key}`).setAttribute("aria-invalid", "true");
  }
  wrong.textContent = rest.join("\n");
}

async function find(go, wrong) {
  const row = shown.answer?.result.rows[shown.row];
  if (!row) return;
  const { model, serve, price, set } = ask();
  const load = Object.fromEntries(
    fields()
      .map(([key]) => [key, state[key]])
      .filter(([, value]) => value),
  );
  const body = {
    model,
    on: row.system,
    serve: { isl: serve.isl, osl: serve.osl, ...load },
    ...(price ? { price } : {}),
    ...(set ? { set } : {}),
  };
  wrong.textContent = "";
  for (const [key] of fields()) {
    $(`wrong-load-${key}`).textContent = "";
    $(`load-${key}`).removeAttribute("aria-invalid");
  }
  go.disabled = true;
  const box = $("load-answer");
  box.replaceChildren(skeleton(4));
  const done = waiting("load", box, `Playing out requests on ${row.system}`);
  try {
    const answer = await post("/api/plan", body);
    done();
    const made = h("div", {});
    const explain = (metric, from) => drawer.explain(body, metric, from);
    if (!box.isConnected) return;
    box.replaceChildren(
      h(
        "section",
        { class: "load", "aria-label": "For a load" },
        h("h2", { tabindex: -1 }, answer.view.headline),
        h("p", { class: "beneath" }, answer.view.under),
        seen(answer.result.plans, explain),
        made,
      ),
    );
    pageOf(made, { ...answer.view, charts: [] }, { strip: false, explain });
    box.querySelector("h2").focus();
  } catch (error) {
    done(false);
    box.replaceChildren();
    refuse(error, wrong);
  } finally {
    go.disabled = false;
  }
}
