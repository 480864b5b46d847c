// Images, clips and encoders: one job of forward passes on several systems. The form has the fields of the schema
// that the server tells.

import { $, download, h, head } from "./dom.js";
import { once, page, post } from "./api.js";
import { change, state } from "./state.js";
import { choice, foldedQuestion } from "./question.js";
import { clear, input, taken, wrong } from "./fields.js";
import { pageOf } from "./pages.js";
import { skeleton, waiting } from "./waiting.js";
import * as drawer from "./explain.js";

/** What a visitor begins with. */
const KINDS = {
  image: [
    "An image",
    {
      model: "flux.1-dev",
      on: ["trn2", "trn3", "b300"],
      chips: "4",
      task: "diffuse",
      height: "1024",
      width: "1024",
      steps: "28",
    },
  ],
  clip: [
    "A clip",
    {
      model: "wan-2.1-14b",
      on: ["trn2", "trn3", "b300"],
      chips: "4",
      task: "diffuse",
      height: "480",
      width: "832",
      frames: "81",
      steps: "50",
    },
  ],
  texts: [
    "Vectors of texts",
    { model: "bert-large", on: ["trn2", "trn3", "b300"], chips: "1", task: "encode", tokens: "512", batch: "64" },
  ],
};
const OF_TASK = { diffuse: ["height", "width", "frames", "steps", "guidance"], encode: ["tokens", "batch"] };
const OF_COMPARE = ["model", "on", "chips"];
const MORE = ["price", "stack", "set"];
const WORDS = {
  task: Object.keys(OF_TASK),
  guidance: ["1", "2"],
  price: ["tco", "rent", "list", "on-demand", "1y", "3y", "spot", "market"],
};

let schema = null;
let models = [];
let answer = null;
let running = null;

/** What the fields of the form hold. */
const filled = () => (Object.keys(state.passes).length ? state.passes : KINDS.image[1]);
const isOfJob = (key) => key in schema.Forward;

/** The request of what the fields hold. */
function question() {
  const all = Object.entries(filled());
  return {
    ...Object.fromEntries(all.filter(([key]) => !isOfJob(key))),
    forward: Object.fromEntries(all.filter(([key]) => isOfJob(key))),
  };
}

export async function show() {
  head("Images, clips and encoders");
  $("status").replaceChildren();
  if (!schema) {
    const [api, known] = await Promise.all([once("/openapi.json"), once("/api/models")]);
    const { Compare, Forward } = api.components.schemas;
    models = known.result.models;
    schema = { Compare: Compare.properties, Forward: Forward.properties };
  }
  if (state.tab !== "forward") return;
  form();
  $("view").replaceChildren(h("div", {}, h("div", { id: "pass-wrong" }), h("div", { id: "pass-answer" })));
  if (answer && JSON.stringify(answer.body) === JSON.stringify(question())) draw();
  else await solve();
  $("centre").setAttribute("aria-busy", "false");
}

function put(key, text) {
  const next = { ...filled() };
  delete next[key];
  const value = taken(isOfJob(key) ? schema.Forward[key] : schema.Compare[key], key, text.trim());
  if (value !== undefined) next[key] = value;
  if (key === "task")
    for (const other of Object.values(OF_TASK).flat()) if (!OF_TASK[value]?.includes(other)) delete next[other];
  ask(next);
}

function ask(passes) {
  change({ passes }, true);
  document.dispatchEvent(new Event("kept"));
  form();
  return solve();
}

function form() {
  const left = $("left");
  const held = left.contains(document.activeElement) ? document.activeElement.id : "";
  const open = left.querySelector("details.fold")?.open;
  const now = filled();
  const kind = Object.keys(KINDS).find((name) => JSON.stringify(KINDS[name][1]) === JSON.stringify(now)) ?? "";
  const made = (key) =>
    input("pass", key, isOfJob(key) ? schema.Forward[key] : schema.Compare[key], now[key], put, {
      vocabulary: WORDS[key],
      list: key === "model" ? "pass-models" : null,
    });
  const does = (m) =>
    now.task === "encode" ? m.kind !== "diffusion" : m.kind === "diffusion" || m.kind === "module";
  left.replaceChildren(
    foldedQuestion(
      choice(
        "pass-kind",
        "What is made",
        Object.entries(KINDS).map(([name, [label]]) => [name, label]),
        kind,
        (name) => ask(KINDS[name][1]).then(() => $("left").querySelector(`input[value="${name}"]`)?.focus()),
      ),
      h(
        "datalist",
        { id: "pass-models" },
        models.filter(does).map((m) => h("option", { value: m.name })),
      ),
      h(
        "fieldset",
        { class: "fields" },
        h("legend", { class: "sr" }, "The job"),
        ["task", ...OF_COMPARE, ...(OF_TASK[now.task] ?? []), "latency"].map(made),
      ),
      h("details", { class: "fold", open }, h("summary", {}, "Price and software"), MORE.map(made)),
    ),
  );
  if (held) $(held)?.focus(); // made anew under the fingers
}

async function solve() {
  if (!$("pass-answer")) return; // another tab by now
  running?.abort();
  const own = new AbortController();
  running = own;
  const body = question();
  if (answer) $("pass-answer").classList.add("stale");
  else $("pass-answer").replaceChildren(skeleton(9));
  $("centre").setAttribute("aria-busy", "true");
  const done = waiting("forward", $("status"), "Searching plans");
  try {
    const got = await post("/api/compare", body, own.signal);
    done(!own.signal.aborted);
    if (own.signal.aborted) return;
    answer = { ...got, body };
    if (state.tab === "forward") draw();
  } catch (error) {
    done(false);
    if (own.signal.aborted || error.name === "AbortError" || !$("pass-wrong")) return;
    wrong("pass", $("pass-wrong"), error, answer ? "Below is the last answer." : "");
    if (!answer) $("pass-answer").replaceChildren();
  }
  $("centre").setAttribute("aria-busy", "false");
}

function draw() {
  const box = $("pass-answer");
  if (!box) return;
  clear($("pass-wrong"));
  box.classList.remove("stale");
  head(answer.view);
  $("footing").textContent = "Each system at its best plan.";
  $("status").replaceChildren(...(answer.notes ?? []).map((text) => h("p", { class: "note" }, text)));
  const made = h("div", {});
  box.replaceChildren(made);
  pageOf(made, answer.view, {
    made: answer.command,
    explain: (metric, from) => drawer.explain(answer.body, metric, from),
  });
  const named = new Set(answer.result.rows.map((r) => (r.estimated ? `${r.system} (est.)` : r.system)));
  made.querySelectorAll("th[scope=col]").forEach((e) => {
    if (named.has(e.textContent)) e.title = "A system at its best plan.";
  });
  box.dataset.item = String(answer.result.rows[0].item_s.value ?? "");
}

export const take = {
  json: () => download("forward.json", `${JSON.stringify(answer.result, null, 1)}\n`, "application/json"),
  html: async () => download("forward.html", await page("/api/report", answer.body), "text/html"),
  command: () => answer?.command,
};
