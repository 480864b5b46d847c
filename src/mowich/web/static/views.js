// Views that are one question of a verb and the page of its answer: images, clips and encoders; gap, value, prices,
// claims. A form has the fields of the schema that the server tells.

import { $, download, h, head } from "./dom.js";
import { once, page, post } from "./api.js";
import { change, state } from "./state.js";
import { choice, foldedQuestion } from "./question.js";
import { clear, input, taken, wrong } from "./fields.js";
import { pageOf } from "./pages.js";
import { skeleton, waiting } from "./waiting.js";
import * as drawer from "./explain.js";

const TRAINING = { work: "train", tokens: "15T", seq: "4096", batch: "16384seqs", chips: "16384" };
const SERVING = { work: "serve", isl: "8k", osl: "1k", ttft: "2s", tpot: "50ms", chips: "64" };
const JOBS = { train: ["Training", TRAINING], serve: ["Serving", SERVING] };
const OF_JOB = { train: ["tokens", "seq", "batch"], serve: ["isl", "osl", "ttft", "tpot"] };
const MORE = { train: ["stack", "recipe", "price", "set"], serve: ["cached", "engine", "price", "set"] };
const THREE = ["trn2", "trn3", "b300"];
const OF_TASK = { diffuse: ["height", "width", "frames", "steps", "guidance"], encode: ["tokens", "batch"] };

const image = { model: "flux.1-dev", on: THREE, chips: "4", task: "diffuse", height: "1024", width: "1024" };
const clip = { model: "wan-2.1-14b", on: THREE, chips: "4", task: "diffuse", height: "480", width: "832" };
const texts = { model: "bert-large", on: THREE, chips: "1", task: "encode", tokens: "512", batch: "64" };

/** title: before there is an answer; verb: that is asked, and its schema; kinds: questions to begin with, of which the
 * first is; keeps: fields that another kind leaves as they are; open, more: fields of what is filled in; doing: what
 * the server does meanwhile; named: labels that say more than the key; footing: below the headline. */
const VIEWS = {
  forward: {
    title: "Images, clips and encoders",
    verb: "compare",
    schema: "Compare",
    asks: "What is made",
    kinds: {
      image: ["An image", { ...image, steps: "28", work: "forward" }],
      clip: ["A clip", { ...clip, frames: "81", steps: "50", work: "forward" }],
      texts: ["Vectors of texts", { ...texts, work: "forward" }],
    },
    keeps: [],
    open: (now) => ["task", "model", "on", "chips", ...(OF_TASK[now.task] ?? []), "latency"],
    more: () => ["price", "stack", "set"],
    doing: "Searching plans",
    named: { on: "Systems" },
    footing: "Each system at its best plan.",
  },
  gap: {
    title: "Why one machine beats another",
    verb: "gap",
    schema: "Gap",
    asks: "The work",
    start: { first: "trn3", second: "gb300", model: "deepseek-v3", metric: "tokens_per_s_per_chip" },
    without: "waterfall", // drawn in text; the picture below has it
    kinds: JOBS,
    keeps: ["first", "second", "model", "price", "set"],
    open: (now) => ["first", "second", "model", "metric", "chips", ...(OF_JOB[now.work] ?? [])],
    more: (now) => [...(MORE[now.work] ?? []), "seed"],
    doing: "Planning on machines between the two",
    named: { first: "Machine", second: "Against", metric: "Compared by", chips: "Chips of each" },
    footing: "A property after the other goes from the first machine to the second.",
  },
  value: {
    title: "What more of a property is worth",
    verb: "value",
    schema: "Value",
    asks: "The work",
    start: { on: "trn3", of: "memory", models: ["deepseek-v3", "llama-3.1-405b"] },
    kinds: JOBS,
    keeps: ["on", "of", "models", "low", "high", "points", "price", "set"],
    open: (now) => ["on", "of", "low", "high", "models", "chips", ...(OF_JOB[now.work] ?? [])],
    more: (now) => ["points", ...(MORE[now.work] ?? [])],
    doing: "Planning with more and less of it",
    named: { on: "Machine", of: "More of what", low: "From", high: "To", points: "Amounts in the range" },
    footing: "The machine with this property set and nothing else.",
  },
  prices: {
    title: "What a chip-hour costs and is sold for",
    verb: "prices",
    schema: "Prices",
    start: { verb: "prices", on: ["trn2", "trn3", "ironwood", "gb300"] },
    open: () => ["on", "price", "quarter", "rule", "buyer"],
    more: () => ["margin", "life", "chips", "set"],
    doing: "Adding up parts",
    named: { on: "Systems; empty: all", price: "Kind of price", quarter: "Bought in", rule: "Spread by the rule of" },
    footing: "Of an installed chip and an hour of the calendar.",
  },
  claims: {
    title: "Public claims, derived again",
    verb: "claims",
    schema: "Claims",
    start: { verb: "claims" },
    open: () => ["word"],
    more: () => ["set"],
    doing: "Deriving claims",
    named: { word: "Words to look for" },
    hints: { word: "4x, energy trainium, does not follow" },
    footing: "What is said in public against what the facts give.",
  },
};
/** Labels of fields, and words for values, that would be spelled by their keys. */
const NAMED = {
  tokens: "Tokens",
  seq: "Sequence, tokens",
  batch: "Batch of a step",
  isl: "Prompt, tokens",
  osl: "Answer, tokens",
  ttft: "Longest wait for the first token",
  tpot: "Longest time per token",
  cached: "Share of prompts cached",
  set: "Settings, path=value; semicolons between",
  seed: "Seed of the orders that are drawn",
};
const SAID = {
  tokens_per_s_per_chip: "tokens per second and chip",
  usd_per_mtok: "cost of a million tokens",
  usd_total: "cost of the whole run",
};
const HIDDEN = ["work", "verb"];

let schemas = null;
let known = { models: [], systems: [], prices: {} };
const answers = {}; // of each view the last
let running = null;

/** What a view begins with. */
const begins = (v) => ({ ...v.start, ...Object.values(v.kinds ?? {})[0]?.[1] });

/** A view by its name: what main.js takes of it. */
export function viewOf(name) {
  const v = VIEWS[name];
  const at = (part) => $(`${name}-${part}`);
  const filled = () => ({ ...(state.asked[name] ?? begins(v)) });
  const top = () => schemas[v.schema].properties;
  const isTop = (key) => key in top();
  /** The schema of a field of the question, or of its job. */
  function fieldOf(key, now) {
    if (isTop(key)) return top()[key];
    const job = top()
      [now.work]?.anyOf?.find((one) => one.$ref)
      ?.$ref.split("/")
      .pop();
    return schemas[job]?.properties[key];
  }

  /** The request of what the fields hold. */
  function question() {
    const now = filled();
    const all = Object.entries(now).filter(([key]) => key !== "work");
    const of = (inTop) => Object.fromEntries(all.filter(([key]) => isTop(key) === inTop));
    return now.work ? { ...of(true), [now.work]: of(false) } : Object.fromEntries(all);
  }

  async function show() {
    head(v.title);
    $("status").replaceChildren();
    if (!schemas) {
      const [api, models, machines] = await Promise.all(
        ["/openapi.json", "/api/models", "/api/systems"].map((path) => once(path)),
      );
      known = { models: models.result.models, ...machines.result };
      schemas = api.components.schemas;
    }
    if (state.tab !== name) return;
    form();
    $("view").replaceChildren(h("div", {}, h("div", { id: `${name}-wrong` }), h("div", { id: `${name}-answer` })));
    if (answers[name] && JSON.stringify(answers[name].body) === JSON.stringify(question())) draw();
    else await solve();
    $("centre").setAttribute("aria-busy", "false");
  }

  function put(key, text) {
    const next = filled();
    delete next[key];
    const value = taken(fieldOf(key, next), key, text.trim());
    if (value !== undefined) next[key] = value;
    if (key === "task")
      for (const other of Object.values(OF_TASK).flat()) if (!OF_TASK[value]?.includes(other)) delete next[other];
    ask(next);
  }

  function ask(next) {
    change({ asked: { ...state.asked, [name]: next } }, true);
    document.dispatchEvent(new Event("kept"));
    form();
    return solve();
  }

  /** Another kind of question. */
  const pick = (kind) => {
    const now = filled();
    const same = Object.fromEntries(v.keeps.filter((key) => key in now).map((key) => [key, now[key]]));
    ask({ ...v.start, ...v.kinds[kind][1], ...same }).then(() =>
      $("left").querySelector(`input[value="${kind}"]`)?.focus(),
    );
  };

  function kinds(now) {
    if (!v.kinds) return null;
    const holds = ([, fields]) => Object.entries(fields).every(([key, value]) => String(now[key]) === String(value));
    const is = (kind) => (v.keeps.length ? v.kinds[kind][1].work === now.work : holds(v.kinds[kind]));
    return choice(
      `${name}-kind`,
      v.asks,
      Object.entries(v.kinds).map(([kind, [label]]) => [kind, label]),
      Object.keys(v.kinds).find(is) ?? "",
      pick,
    );
  }

  function form() {
    const left = $("left");
    const held = left.contains(document.activeElement) ? document.activeElement.id : "";
    const open = left.querySelector("details.fold")?.open;
    const now = filled();
    const lists = { model: "models", first: "systems", second: "systems" };
    const made = (key) =>
      input(name, key, fieldOf(key, now), now[key], put, {
        vocabulary: v.verb === "prices" ? known.prices[key] : null,
        list: lists[key] ? `${name}-${lists[key]}` : null,
        label: v.named[key] ?? (now.work === "forward" ? null : NAMED[key]),
        said: SAID,
        hint: v.hints?.[key],
      });
    const there = (keys) => keys.filter((key) => !HIDDEN.includes(key) && fieldOf(key, now)).map(made);
    const ofKind = { diffuse: ["diffusion", "module"], encode: null }[now.task];
    const does = (m) => (ofKind ? ofKind.includes(m.kind) : m.kind !== "diffusion");
    const list = (id, words) =>
      h(
        "datalist",
        { id: `${name}-${id}` },
        words.map((value) => h("option", { value })),
      );
    left.replaceChildren(
      foldedQuestion(
        kinds(now),
        list(
          "models",
          known.models.filter(does).map((m) => m.name),
        ),
        list(
          "systems",
          known.systems.map((s) => s.id),
        ),
        h("fieldset", { class: "fields" }, h("legend", { class: "sr" }, "The question"), there(v.open(now))),
        h("details", { class: "fold", open }, h("summary", {}, "More"), there(v.more(now))),
        h(
          "button",
          { type: "button", class: "small quiet", id: `${name}-over`, onclick: () => ask(begins(v)) },
          "Start over",
        ),
      ),
    );
    if (held) $(held)?.focus(); // made anew under the fingers
  }

  async function solve() {
    if (!at("answer")) return; // another tab by now
    running?.abort();
    const own = new AbortController();
    running = own;
    const body = question();
    if (answers[name]) at("answer").classList.add("stale");
    else at("answer").replaceChildren(skeleton(9));
    $("centre").setAttribute("aria-busy", "true");
    const done = waiting(name, $("status"), v.doing);
    try {
      const got = await post(`/api/${v.verb}`, body, own.signal);
      done(!own.signal.aborted);
      if (own.signal.aborted) return;
      answers[name] = { ...got, body };
      if (state.tab === name) draw();
    } catch (error) {
      done(false);
      if (own.signal.aborted || error.name === "AbortError" || !at("wrong")) return;
      wrong(name, at("wrong"), error, answers[name] ? "Below is the last answer." : "");
      if (!answers[name]) at("answer").replaceChildren();
    }
    $("centre").setAttribute("aria-busy", "false");
  }

  function draw() {
    const box = at("answer");
    if (!box) return;
    const answer = answers[name];
    clear(at("wrong"));
    box.classList.remove("stale");
    head(answer.view);
    $("footing").textContent = v.footing;
    $("status").replaceChildren(...(answer.notes ?? []).map((text) => h("p", { class: "note" }, text)));
    const made = h("div", {});
    box.replaceChildren(made);
    const left = (t) => t.head.map((word, i) => word !== v.without && i).filter((i) => i !== false);
    const tables = answer.view.tables.map((t) => {
      const kept = left(t);
      return { ...t, head: kept.map((i) => t.head[i]), rows: t.rows.map((row) => kept.map((i) => row[i])) };
    });
    pageOf(
      made,
      { ...answer.view, tables },
      { made: answer.command, explain: (metric, from) => drawer.explain(answer.body, metric, from) },
    );
    const machines = new Set([answer.result.rows, answer.result.systems].flat().map(nameOf));
    made.querySelectorAll("th[scope=col]").forEach((e) => {
      if (machines.has(e.textContent.split(", ")[0])) e.title = "A system at its best plan.";
    });
    box.dataset.answered = answer.command;
  }

  const nameOf = (r) => (typeof r === "string" ? r : r?.estimated ? `${r.system} (est.)` : r?.system);
  const take = {
    json: () => download(`${name}.json`, `${JSON.stringify(answers[name].result, null, 1)}\n`, "application/json"),
    html: async () => download(`${name}.html`, await page("/api/report", answers[name].body), "text/html"),
    command: () => answers[name]?.command,
  };
  return { show, take };
}
