// The left pane: the question of a tab. Train and Serve: model, systems, size, lengths, limits, price, software;
// the rest folded.

import { $, h } from "./dom.js";
import { once, post } from "./api.js";
import { EMPTY, LENGTHS, PAID, announce, asksJob, change, fromAsk, state, toYaml, trains, watch } from "./state.js";
import { learnModels, picker, renewCard } from "./model.js";
import { loadField } from "./load.js";
import { choice, foldedQuestion, select, slider, systemsField, typed } from "./question.js";

/** How words of the schema are written that would be spelled as they are. */
const WRITTEN = {
  tco: "cost of ownership",
  "on-demand": "on demand",
  "1y": "1 year",
  "3y": "3 years",
  "capacity-block": "capacity block",
  usd: "budget",
  year: "a year",
  month: "a month",
  day: "a day",
  pretrain: "pretraining",
  sft: "fine-tuning",
  lora: "LoRA",
};
const SIZE_WORDS = {
  chips: "Chips of each system",
  units: "Units of each system",
  usd: "Budget: that of so many chips of the first",
  power: "Power: that of so many chips of the first",
};
const FIELDS = [
  "chips",
  "budget",
  "days",
  "serve_chips",
  "tokens",
  "seq",
  "batch",
  "isl",
  "osl",
  "ttft",
  "tpot",
  "cached",
  "model",
  "on",
  "price",
  "stack",
  "engine",
  "have",
  "power",
  "per",
  "set",
];
const SAID = { serve_chips: "chips" };

let systems = [];
let known = { stacks: [], engines: [], words: {} }; // of the facts, and of the schema of a job
/** The words of a field, as options. */
const wordsOf = (key) => (known.words[key] ?? []).map((word) => [word, WRITTEN[word] ?? word]);

export async function build() {
  draw();
  const [found] = await Promise.all([once("/api/systems").then((a) => a.result), learnModels()]);
  ({ systems, ...known } = found);
  draw();
  watch((keys) => {
    if (keys.some((k) => ["all", "equal", "power"].includes(k))) draw();
    else if (keys.includes("on") && asksJob()) software();
    else if (keys.some((k) => ["stack", "engine"].includes(k))) softwareNote();
    renewYaml();
    renewCard();
  });
  $("left").dataset.ready = "yes";
}

const ownGiven = () => Boolean(state.have || state.power || state.per);

/** What is the same for each system; greyed where a site's power says the chips. */
function sizes() {
  const fed = Boolean(state.power);
  const about = fed
    ? h("p", { class: "note", id: "fed" }, `The site of ${state.power} says the chips. Empty its field to set them.`)
    : null;
  if (!trains()) return [slider("serve_chips", "Chips of each system", "chips", fed), about];
  return [
    choice(
      "equal",
      "Same for each",
      [...wordsOf("equal"), [PAID, "cost and days"]],
      state.equal,
      (equal) => change({ equal }),
      fed,
    ),
    state.equal !== PAID
      ? slider("chips", SIZE_WORDS[state.equal], "chips", fed)
      : [slider("budget", "What the run may cost", "$2M", fed), slider("days", "Days that it pays for", "30", fed)],
    about,
  ];
}

/** Lengths of training requests, or of prompts and answers with the presets. */
function lengths() {
  if (trains())
    return [
      slider("tokens", "Tokens to train on", state.equal === PAID ? "15T; empty: what the money trains" : "15T"),
      slider("seq", "Sequence, tokens", "tokens"),
      slider("batch", "Batch of a step", "16384seqs or 64M tokens"),
    ];
  const now = LENGTHS.find(([, isl, osl]) => isl === state.isl && osl === state.osl)?.[0];
  return [
    choice(
      "lengths",
      "Prompt and answer, tokens",
      LENGTHS.map(([name]) => [name, name]),
      now,
      (name) => {
        const [, isl, osl] = LENGTHS.find(([n]) => n === name);
        change({ isl, osl }, true);
        draw();
        announce(["isl", "osl"]);
      },
    ),
    slider("isl", "Prompt, tokens", "tokens"),
    slider("osl", "Answer, tokens", "tokens"),
  ];
}

const HAND_TUNED = "hand-tuned"; // the word of the command line, for training and for serving
const softwareKey = () => (trains() ? "stack" : "engine");

/** Which of the software that Trainium has; nothing where no Trainium is asked for that has two. */
function software() {
  const place = $("software");
  if (!place) return;
  const key = softwareKey();
  const tuned = state.on.some((w) => (trains() ? /^trn/ : /^trn[2-9]/).test(w));
  const words = { "": "as shipped", [HAND_TUNED]: HAND_TUNED };
  place.replaceChildren(
    ...(tuned
      ? [
          choice("software", "Software of Trainium", Object.entries(words), state[key], (value) =>
            change({ [key]: value }),
          ),
          h("p", { class: "note", id: "software-note" }),
        ]
      : []),
  );
  softwareNote();
}

/** What the choice means, and the same in the list of all software. */
function softwareNote() {
  const [key, chosen] = [softwareKey(), state[softwareKey()]];
  document.querySelectorAll("input[name=software]").forEach((e) => {
    e.checked = e.value === chosen;
  });
  if ($(`select-${key}`)) $(`select-${key}`).value = chosen;
  if ($("software-note"))
    $("software-note").textContent =
      chosen === HAND_TUNED
        ? "What kernels written by hand would reach. The other systems stay as shipped."
        : chosen
          ? `All systems run ${chosen}.`
          : "What a customer gets today.";
}

/** Software that all systems are to run. */
const allSoftware = () =>
  select(softwareKey(), "Software of all systems", [
    ["", "as each maker ships it"],
    [HAND_TUNED, "hand-tuned, where there is some"],
    ...(trains() ? known.stacks : known.engines).map((s) => [s, s]),
  ]);

function draw() {
  const left = $("left");
  const held = left.contains(document.activeElement) ? document.activeElement : null;
  const same =
    held && (held.id ? `#${CSS.escape(held.id)}` : held.name ? `[name="${held.name}"][value="${held.value}"]` : null);
  const folds = new Set([...left.querySelectorAll("details[open]")].map((d) => d.dataset.fold));
  if (!asksJob() && state.tab !== "facts") return;
  left.replaceChildren(foldedQuestion(state.tab === "facts" ? systemsField(systems, true) : job(folds)));
  software();
  if (same) left.querySelector(same)?.focus(); // made anew under the fingers
  renewYaml();
}

function job(folds) {
  const yaml = h("textarea", {
    id: "yaml",
    rows: 11,
    spellcheck: "false",
    "aria-label": "The scenario as YAML",
    oninput: () => {
      yaml.dataset.edited = "yes";
      apply.disabled = false;
    },
  });
  const apply = h(
    "button",
    { type: "button", class: "small", id: "apply", disabled: true, onclick: () => applyYaml(yaml, apply) },
    "Apply",
  );
  const set = h("textarea", {
    id: "set",
    rows: 3,
    spellcheck: "false",
    placeholder: "prices.trn3=$1.40/chip/h",
    onchange: () =>
      change({
        set: set.value
          .split("\n")
          .map((s) => s.trim())
          .filter(Boolean),
      }),
  });
  set.value = state.set.join("\n");
  const fold = (name, title, ...what) =>
    h(
      "details",
      { class: "fold", "data-fold": name, open: folds.has(name) || (name === "own" && ownGiven()) },
      h("summary", {}, title),
      ...what,
    );
  return [
    picker(),
    systemsField(systems, folds.has("systems")),
    sizes(),
    lengths(),
    trains()
      ? null
      : [
          slider("ttft", "Longest wait for the first token", "2s; empty: none"),
          slider("tpot", "Longest time per token", "50ms; empty: none"),
        ],
    h("div", { id: "software" }),
    select("price", "Price", [["default", "one kind for all rows"], ...wordsOf("price")]),
    trains()
      ? null
      : h("fieldset", { class: "of-load", id: "load" }, h("legend", {}, "How many chips for a load?"), loadField()),
    fold(
      "own",
      "Chips, a site or a year of your own",
      typed("have", "Chips that are there: they cost electricity", "trn2:512"),
      typed("power", "Power of a site: it says the chips of each", "5MW"),
      select("per", "What it comes to in a time", [["", "–"], ...wordsOf("per")]),
    ),
    fold(
      "advanced",
      "Advanced",
      trains() ? select("fine", "Task", wordsOf("task")) : slider("cached", "Share of prompts cached", "share"),
      allSoftware(),
      h(
        "div",
        { class: "field" },
        h("label", { for: "set" }, "Settings, a path=value in a line"),
        set,
        h("p", { class: "wrong", id: "wrong-set" }),
      ),
      h(
        "button",
        {
          type: "button",
          class: "small quiet",
          onclick: () => {
            change({ ...structuredClone(EMPTY), tab: state.tab }, true);
            announce(["all"]);
          },
        },
        "Start over",
      ),
    ),
    fold("yaml", "Scenario (YAML)", yaml, apply, h("p", { class: "wrong", id: "wrong-yaml" })),
  ];
}

function renewYaml() {
  const yaml = $("yaml");
  if (yaml && document.activeElement !== yaml) {
    yaml.value = toYaml();
    delete yaml.dataset.edited;
    if ($("apply")) $("apply").disabled = true;
  }
}

async function applyYaml(yaml, apply) {
  const wrong = $("wrong-yaml");
  wrong.textContent = "";
  try {
    const answer = await post("/api/scenario", { yaml: yaml.value });
    change(fromAsk(answer.result.ask), true);
    yaml.blur();
    announce(["all"]);
    apply.disabled = true;
  } catch (error) {
    wrong.textContent = error.message;
  }
}

/** Put the lines of a refusal beside the fields that they are about; all lines are returned. */
export function wrong(errors) {
  document.querySelectorAll(".left .wrong").forEach((p) => {
    p.textContent = "";
  });
  document.querySelectorAll(".left [aria-invalid]").forEach((e) => e.removeAttribute("aria-invalid"));
  for (const e of errors) {
    const where = String(e.where ?? "");
    const last = where.split(/[ .]/).filter(Boolean).pop() ?? "";
    const key = FIELDS.find(
      (k) =>
        $(`wrong-${k}`) &&
        [k, SAID[k]].some(
          (word) =>
            word && (where === word || where.startsWith(`${word} `) || where.startsWith(`${word}.`) || last === word),
        ),
    );
    if (!key) continue;
    $(`wrong-${key}`).textContent = e.line;
    $(`wrong-${key}`).closest("details.fold")?.setAttribute("open", "");
    ($(`text-${key}`) ?? $(`select-${key}`) ?? $(key))?.setAttribute("aria-invalid", "true");
  }
  return errors.map((e) => e.line);
}

/** Draw the pane anew from the state. */
export const redraw = () => draw();
