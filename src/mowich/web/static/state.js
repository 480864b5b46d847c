// The question on the page: one object, the same as a request to the server; in the address as compressed JSON,
// and as YAML.

import { count } from "./dom.js";

export const EMPTY = {
  tab: "brief",
  model: "deepseek-v3",
  config: null,
  on: ["trn2", "trn3", "trn4", "ironwood", "gb300"],
  chips: "16384",
  equal: "chips",
  budget: "$2M",
  days: "30",
  tokens: "15T",
  seq: "4096",
  batch: "16384seqs",
  fine: "pretrain",
  isl: "8k",
  osl: "1k",
  ttft: "2s",
  tpot: "50ms",
  cached: "0%",
  price: "default",
  stack: "",
  engine: "",
  have: "", // chips that are there: trn2:512
  power: "",
  per: "",
  set: [],
  serve_chips: "64",
  load: "rate", // or users
  rate: "20rps",
  users: "200",
  think: "",
  p99_ttft: "5s",
  p99_tpot: "100ms",
  scenario: "startup",
  run_scenario: "rl-nemo-8b",
  run: {},
  asked: {}, // view of one verb -> its fields
  all: false,
};

export const state = structuredClone(EMPTY);
/** The answer that Train and Serve show, its question, the chosen row, and the ms that it took. */
export const shown = { answer: null, body: null, row: 0, ms: 0 };
const watchers = [];
export const watch = (act) => watchers.push(act);

/** Change fields; everybody who watches is told which. */
export function change(fields, quiet = false) {
  Object.assign(state, fields);
  if (!quiet) announce(Object.keys(fields));
}

/** Tell everybody who watches; ["all"]: the question is another one. */
export const announce = (keys) => watchers.forEach((act) => act(keys));

export const asksJob = (tab = state.tab) => tab === "train" || tab === "serve";
export const trains = () => state.tab !== "serve";
/** What is the same for each is money and days, which say the chips. */
export const PAID = "paid";
const isPaid = () => trains() && state.equal === PAID;

/** The body of POST /api/compare. */
export function ask() {
  const body = { model: state.config ?? state.model, on: state.on };
  if (state.power)
    body.power = state.power; // says the chips, whatever else would
  else if (isPaid()) Object.assign(body, { budget: state.budget || null, days: state.days || null });
  else body.chips = trains() ? state.chips : state.serve_chips;
  if (state.have)
    body.have = state.have
      .split(",")
      .map((s) => s.trim())
      .filter(Boolean);
  if (state.per) body.per = state.per;
  if (trains()) {
    body.train = { tokens: state.tokens, seq: state.seq, batch: state.batch };
    if (isPaid() && !state.power && !state.tokens) delete body.train.tokens;
    if (state.fine !== "pretrain") body.train.task = state.fine;
    if (!["chips", PAID].includes(state.equal) && !state.power) body.equal = state.equal;
    if (state.stack) body.stack = state.stack;
  } else {
    body.serve = { isl: state.isl, osl: state.osl };
    if (state.ttft) body.serve.ttft = state.ttft;
    if (state.tpot) body.serve.tpot = state.tpot;
    if (state.cached && !/^0+%?$/.test(state.cached)) body.serve.cached = state.cached;
    if (state.engine) body.serve.engine = state.engine;
  }
  if (state.price !== "default") body.price = state.price;
  if (state.set.length) body.set = [...state.set];
  return body;
}

/** What a request body means for the page. */
export function fromAsk(body) {
  const out = {
    ...EMPTY,
    on: body.on,
    set: [...(body.set ?? [])],
    config: null,
    price: body.price ?? "default",
    have: (body.have ?? []).join(", "),
    power: String(body.power ?? ""),
    per: body.per ?? "",
    tab: body.train ? "train" : "serve",
  };
  if (typeof body.model === "string") out.model = body.model;
  else Object.assign(out, { config: body.model, model: body.model.model_type ?? "pasted" });
  if (body.chips !== undefined && body.chips !== null) out[body.train ? "chips" : "serve_chips"] = String(body.chips);
  if (body.train) {
    Object.assign(out, {
      tokens: String(body.train.tokens ?? ""),
      seq: String(body.train.seq),
      batch: String(body.train.batch),
      fine: body.train.task ?? "pretrain",
    });
    Object.assign(out, { equal: body.equal ?? "chips", stack: body.stack ?? "" });
    if (body.budget || body.days)
      Object.assign(out, { equal: PAID, budget: String(body.budget ?? ""), days: String(body.days ?? "") });
  } else {
    Object.assign(out, {
      isl: String(body.serve.isl),
      osl: String(body.serve.osl),
      ttft: body.serve.ttft ?? "",
      tpot: body.serve.tpot ?? "",
      cached: body.serve.cached ?? "0%",
      engine: body.serve.engine ?? "",
    });
  }
  return out;
}

// ---- YAML --------------------

const plain = (v) =>
  /^[A-Za-z0-9.%_-]+( [A-Za-z0-9]+)?$/.test(v) && !/^(true|false|null|yes|no|on|off|~)$/i.test(v)
    ? v
    : JSON.stringify(v);
const flow = (o) =>
  `{${Object.entries(o)
    .map(([k, v]) => `${k}: ${plain(String(v))}`)
    .join(", ")}}`;

/** The scenario as a file. */
export function toYaml() {
  const body = ask();
  const lines = ["mowich: 1", "workload:"];
  lines.push(
    typeof body.model === "string" ? `  model: ${plain(body.model)}` : `  model: ${JSON.stringify(body.model)}`,
  );
  if (body.train) lines.push(`  train: ${flow(body.train)}`);
  if (body.serve) lines.push(`  serve: ${flow(body.serve)}`);
  lines.push(`systems: [${body.on.map((s) => plain(s)).join(", ")}]`);
  if (body.have) lines.push(`have: [${body.have.map((s) => plain(s)).join(", ")}]`);
  for (const key of ["chips", "budget", "days", "equal", "stack", "price", "power", "per"])
    if (body[key]) lines.push(`${key}: ${plain(String(body[key]))}`);
  if (body.set) {
    lines.push("set:");
    for (const item of body.set)
      lines.push(`  ${item.slice(0, item.indexOf("=")).trim()}: ${plain(item.slice(item.indexOf("=") + 1).trim())}`);
  }
  return `${lines.join("\n")}\n`;
}

// ---- the address --------------------

async function through(stream, data) {
  const piped = new Blob([data]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(piped).arrayBuffer());
}

/** What differs from the empty state. */
export const differing = () =>
  Object.fromEntries(
    Object.entries(state).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(EMPTY[key])),
  );

/** The same, compressed, for the part behind #. */
export async function toHash() {
  const differs = differing();
  if (!Object.keys(differs).length) return "";
  const packed = await through(
    new CompressionStream("deflate-raw"),
    new TextEncoder().encode(JSON.stringify(differs)),
  );
  return btoa(String.fromCharCode(...packed))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

const MOST_HASH = 60000;

/** The state that an address holds; the empty one where it holds none or is damaged. */
export async function fromHash(hash) {
  const out = structuredClone(EMPTY);
  if (!hash || hash.length > MOST_HASH) return out;
  try {
    const packed = Uint8Array.from(atob(hash.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const given = JSON.parse(new TextDecoder().decode(await through(new DecompressionStream("deflate-raw"), packed)));
    for (const [key, value] of Object.entries(given)) {
      if (key === "passes") out.asked = { forward: { ...value, work: "forward" } }; // of an earlier page
      if (!(key in EMPTY)) continue;
      const kind = (v) => (Array.isArray(v) ? "array" : v === null ? "null" : typeof v);
      if (kind(value) === kind(EMPTY[key]) || (key === "config" && kind(value) === "object")) out[key] = value;
    }
    if (!out.on.every((s) => typeof s === "string") || !out.set.every((s) => typeof s === "string"))
      return structuredClone(EMPTY);
    if (!TABS.some(([id]) => id === out.tab)) out.tab = "train"; // a link of an earlier page
  } catch {
    return structuredClone(EMPTY);
  }
  return out;
}

/** The views by who asks; that of everybody first. */
export const GROUPS = [
  ["", [["brief", "Brief"]]],
  [
    "Run a model",
    [
      ["train", "Train"],
      ["serve", "Serve"],
      ["forward", "Generate"],
      ["rl", "RL"],
      ["gap", "Gap"],
    ],
  ],
  [
    "Buy machines",
    [
      ["fleet", "Fleet"],
      ["prices", "Prices"],
      ["value", "Value"],
    ],
  ],
  ["Write kernels", [["kernel", "Kernel"]]],
  [
    "Check us",
    [
      ["facts", "Facts"],
      ["accuracy", "Accuracy"],
      ["claims", "Claims"],
    ],
  ],
];
export const TABS = GROUPS.flatMap(([, views]) => views);

/** Values that a slider stops at. */
export const STOPS = {
  chips: ["64", "128", "256", "512", "1024", "2048", "4096", "8192", "16384", "32768", "65536", "131072"],
  budget: ["$100k", "$200k", "$500k", "$1M", "$2M", "$5M", "$10M", "$20M", "$50M", "$100M", "$200M", "$500M", "$1B"],
  days: ["7", "14", "30", "60", "90", "180", "365"],
  serve_chips: ["8", "16", "32", "64", "72", "128", "144", "256", "512", "1024"],
  tokens: [1e11, 3e11, 1e12, 2e12, 5e12, 1e13, 1.5e13, 2e13, 3e13, 5e13].map(count),
  seq: ["2048", "4096", "8192", "16384", "32768", "65536", "131072"],
  batch: [
    "256seqs",
    "512seqs",
    "1024seqs",
    "2048seqs",
    "4096seqs",
    "8192seqs",
    "16384seqs",
    "32768seqs",
    "65536seqs",
  ],
  isl: ["128", "512", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k"],
  osl: ["64", "128", "256", "512", "1k", "2k", "4k", "8k"],
  ttft: ["200ms", "500ms", "1s", "2s", "3s", "5s", "10s", "30s"],
  tpot: ["5ms", "10ms", "15ms", "20ms", "30ms", "50ms", "75ms", "100ms", "200ms"],
  cached: ["0%", "20%", "40%", "60%", "80%", "95%"],
};

/** Lengths of requests by the names that InferenceX gives them. */
export const LENGTHS = [
  ["1k/1k", "1k", "1k"],
  ["8k/1k", "8k", "1k"],
  ["1k/8k", "1k", "8k"],
  ["128k/4k", "128k", "4k"],
];

/** The number that a word such as 16384seqs, 15T, $2M, 2s, 50ms, 60% means; for placing a slider. */
export function size(word) {
  const found = /^\$?([0-9.]+)\s*(ms|s|seqs?|%|Ki|k|K|M|G|B|T)?/.exec(String(word).trim());
  if (!found) return NaN;
  return Number(found[1]) * ({ ms: 1e-3, k: 1e3, K: 1e3, Ki: 1024, M: 1e6, G: 1e9, B: 1e9, T: 1e12 }[found[2]] ?? 1);
}
