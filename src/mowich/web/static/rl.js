// Reinforcement learning: a run or a split of chips. It begins with a scenario that ships; the form has the
// fields of the schema that the server tells, and the same question as YAML.

import { $, download, h, head } from "./dom.js";
import { once, page, post } from "./api.js";
import { change, state } from "./state.js";
import { choice, foldedQuestion } from "./question.js";
import { clear, input, taken, wrong } from "./fields.js";
import { pageOf } from "./pages.js";
import { skeleton, waiting } from "./waiting.js";
import * as drawer from "./explain.js";

/** Fields by what they are about; those of the first groups are open, those of no group are in the last. */
const GROUPS = [
  ["", ["model", "algorithm", "prompts", "samples", "mean", "cap"]],
  ["Where", ["on", "rollouts", "trainer", "chips", "staleness"]],
  [
    "Batch and lengths",
    [
      "batch",
      "global_batch",
      "epochs",
      "acceptance",
      "reference",
      "teacher",
      "critic",
      "sigma",
      "quantiles",
      "prompt",
      "max_sequence",
    ],
  ],
  [
    "Rollouts and trainer",
    [
      "engine",
      "release",
      "rollout_plan",
      "memory_share",
      "accept",
      "drafts",
      "stack",
      "trainer_plan",
      "framework",
      "sync",
      "link",
      "placement",
      "order",
      "partial",
    ],
  ],
  ["Environment", ["turns", "call", "reward", "judge", "judge_on", "judge_tokens"]],
  ["Price and search", []],
];
const OPEN = 2; // groups without a fold
const HIDDEN = ["yaml", "verb"];

let shipped = null;
let schema = null;
let answer = null;
let running = null;
let models = [];

const picked = () => shipped.find((s) => s.name === state.run_scenario) ?? shipped[0];
const isOwn = () => Object.keys(state.run).length > 0;
/** What the fields of the form hold. */
const filled = () => (isOwn() ? state.run : (answer?.asked ?? {}));
/** The request: a scenario as it ships, or fields. */
const question = () => ({ verb: "rl", ...(isOwn() ? state.run : { yaml: picked().text }) });

export async function show() {
  head("A step of reinforcement learning");
  $("status").replaceChildren();
  if (!shipped) {
    const [found, api, known] = await Promise.all([
      once("/api/scenarios?verb=rl"),
      once("/openapi.json"),
      once("/api/models"),
    ]);
    shipped = found.result.scenarios;
    schema = api.components.schemas.Rl.properties;
    models = known.result.models.map((m) => m.name);
  }
  if (state.tab !== "rl") return;
  form();
  $("view").replaceChildren(h("div", { class: "rl" }, h("div", { id: "rl-wrong" }), h("div", { id: "rl-answer" })));
  if (answer && JSON.stringify(answer.body) === JSON.stringify(question())) draw();
  else await solve(question());
  $("centre").setAttribute("aria-busy", "false");
}

// ---- the form --------------------

function put(key, text) {
  const next = { ...filled() };
  delete next[key];
  const value = taken(schema[key], key, text.trim());
  if (value !== undefined) next[key] = value;
  change({ run: next }, true);
  document.dispatchEvent(new Event("kept"));
  solve(question());
}

const made = (key) =>
  input("run", key, schema[key], filled()[key], put, { list: key === "model" ? "run-models" : null });

/** Left: the scenario, its fields, its text. */
function form() {
  const left = $("left");
  const held = left.contains(document.activeElement) ? document.activeElement.id : "";
  const open = new Set([...left.querySelectorAll("details[open]")].map((d) => d.dataset.fold));
  const named = new Set(GROUPS.flatMap(([, keys]) => keys));
  const rest = Object.keys(schema).filter((key) => !named.has(key) && !HIDDEN.includes(key));
  const groups = GROUPS.map(([title, keys], i) => {
    const own = (i === GROUPS.length - 1 ? rest : keys).filter((key) => key in schema).map(made);
    if (i < OPEN)
      return h("fieldset", { class: "fields" }, h("legend", { class: title ? null : "sr" }, title || "The run"), own);
    return h("details", { class: "fold", "data-fold": title, open: open.has(title) }, h("summary", {}, title), own);
  });
  const area = h("textarea", {
    id: "run-yaml",
    rows: 16,
    spellcheck: "false",
    "aria-label": "The run as YAML",
    oninput: () => {
      apply.disabled = false;
    },
  });
  area.value = isOwn() ? (answer?.yaml ?? "") : picked().text;
  const apply = h(
    "button",
    {
      type: "button",
      class: "small",
      id: "run-apply",
      disabled: true,
      onclick: () => solve({ verb: "rl", yaml: area.value }, true),
    },
    "Apply",
  );
  left.replaceChildren(
    foldedQuestion(
      choice(
        "run-scenario",
        "Scenario",
        shipped.map((s) => [s.name, s.name.replace(/^rl-/, "")]),
        isOwn() ? "" : picked().name,
        (name) => {
          change({ run_scenario: name, run: {} }, true);
          document.dispatchEvent(new Event("kept"));
          solve(question()).then(() =>
            $("left")
              .querySelector(`input[value="${CSS.escape(name)}"]`)
              ?.focus(),
          );
        },
      ),
      h("p", { class: "note" }, isOwn() ? "A run of your own." : `${picked().what}.`),
      h(
        "datalist",
        { id: "run-models" },
        models.map((name) => h("option", { value: name })),
      ),
      groups,
      h(
        "details",
        { class: "fold", "data-fold": "yaml", open: open.has("yaml") },
        h("summary", {}, "Scenario (YAML)"),
        area,
        h("div", { class: "row" }, apply),
        h("p", { class: "wrong", id: "wrong-run-yaml" }),
      ),
    ),
  );
  if (held) $(held)?.focus(); // made anew under the fingers
}

// ---- the answer --------------------

/** Ask and show. keep: it is a text, whose fields the form takes over where it is right. */
async function solve(body, keep = false) {
  if (!$("rl-answer")) return; // another tab by now
  running?.abort();
  const own = new AbortController();
  running = own;
  if (answer) $("rl-answer").classList.add("stale");
  else $("rl-answer").replaceChildren(skeleton(9));
  $("centre").setAttribute("aria-busy", "true");
  const done = waiting("rl", $("status"), body.chips ? "Searching splits" : "Playing out steps");
  try {
    const got = await post("/api/rl", body, own.signal);
    done(!own.signal.aborted);
    if (own.signal.aborted) return;
    answer = { ...got, body };
    if (keep) change({ run: got.asked }, true);
    if (keep) answer.body = question();
    document.dispatchEvent(new Event("kept"));
    if (state.tab !== "rl") return;
    form();
    draw();
  } catch (error) {
    done(false);
    if (own.signal.aborted || error.name === "AbortError" || !$("rl-wrong")) return;
    wrong("run", $("rl-wrong"), error, answer ? "Below is the last answer." : "");
    if (!answer) $("rl-answer").replaceChildren();
  }
  $("centre").setAttribute("aria-busy", "false");
}

function draw() {
  const box = $("rl-answer");
  if (!box) return;
  const r = answer.result;
  clear($("rl-wrong"));
  box.classList.remove("stale");
  head(answer.view);
  $("footing").textContent =
    `${isOwn() ? "a run of your own" : `scenario ${picked().name}`}; facts ${r.facts_hash ?? ""}`;
  const made = h("div", {});
  box.replaceChildren(made);
  pageOf(made, answer.view, {
    strip: false,
    made: take.command(),
    explain: (metric, from) => drawer.explain(answer.body, metric, from),
  });
  box.dataset.step = String(r.step_s?.value ?? "");
}

export const take = {
  json: () => download("rl.json", `${JSON.stringify(answer.result, null, 1)}\n`, "application/json"),
  yaml: () => download("run.yaml", answer.yaml, "application/yaml"),
  html: async () => download("rl.html", await page("/api/report", answer.body), "text/html"),
  command: () => answer && (isOwn() ? answer.command : picked().command),
};
