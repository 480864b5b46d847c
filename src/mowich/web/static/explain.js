// The formula of a number, with its figures, facts and sources; it stands in the right pane, in the place of the
// row's reasons.

import { $, bytes, h, number } from "./dom.js";
import { post } from "./api.js";
import { skeleton, waiting } from "./waiting.js";

/** The two boxes of the pane: the reasons of a row, and the explanation of a number. */
export function boxes() {
  const right = $("right");
  if (!$("card"))
    right.replaceChildren(
      h("section", { id: "card", "aria-label": "Why this row" }),
      h("section", { id: "why", "aria-label": "Explanation", "aria-live": "polite" }),
    );
  return [$("card"), $("why")];
}

function open(box) {
  document.body.classList.add("why");
  $("card").hidden = true;
  return box;
}

const quantity = (value, unit) => {
  if (value === null || value === undefined) return "?";
  if (unit === "B") return value < 2 ** 20 ? `${number(value)} B` : bytes(value);
  if (unit === "s" && value < 0.1) return value < 1e-4 ? `${number(value * 1e6)} µs` : `${number(value * 1e3)} ms`;
  if (unit === "1") return number(value);
  return `${number(value)} ${unit}`.trim();
};

const putIn = (value, unit) =>
  typeof value !== "number"
    ? [value, unit].filter(Boolean).join(" ")
    : unit
      ? quantity(value, unit)
      : number(value, 4);

let running = null;
let last = null;
let opener = null; // {metric, element} that opened the explanation

/** Close the explanation; the focus goes back to what opened it, or to the number that is there in its place. */
export function close() {
  const box = $("why");
  if (!box?.childElementCount && !document.body.classList.contains("why")) return;
  running?.abort();
  const held = box?.contains(document.activeElement) || document.activeElement === document.body;
  box?.replaceChildren();
  document.body.classList.remove("why");
  if ($("card")) $("card").hidden = false;
  const back = opener?.element?.isConnected
    ? opener.element
    : opener && document.querySelector(`:is(#centre, #card) [data-metric="${CSS.escape(opener.metric)}"]`);
  if (held) back?.focus();
  opener = null;
}

/** Why: formula, numbers, facts. ask: the request whose result has the number. */
export async function explain(ask, metric, from = null) {
  const [, box] = boxes();
  running?.abort();
  const own = new AbortController();
  running = own;
  if (from && !box.contains(from)) opener = { metric, element: from === document.body ? null : from };
  const place = h("div", {}, skeleton(6));
  open(box).replaceChildren(heading("Why this number"), place);
  const done = waiting("explain", place, "Looking for where it comes from");
  try {
    const answer = await post("/api/explain", { ask, metric }, own.signal).finally(() => done(!own.signal.aborted));
    if (own.signal.aborted) return;
    last = { ask, metric, labels: answer.result.fact_labels };
    draw(box, answer.result, metric);
    const now = document.activeElement;
    if (now === from || now === document.body || box.contains(now))
      box.querySelector("h2").focus({ preventScroll: true }); // not away from what was begun since
    $("right").scrollTop = 0;
  } catch (error) {
    if (own.signal.aborted) return;
    box.replaceChildren(heading("Why this number"), h("p", { class: "warning" }, error.message));
  }
}

export const again = () => last;

const called = (path) => last?.labels?.[path];

function source(f) {
  const where = [f.title ?? f.source, f.locator, f.date].filter(Boolean).join(", ");
  const safe = /^https?:\/\//.test(f.address ?? "");
  return h(
    "div",
    { class: "source" },
    h(
      "p",
      {},
      called(f.path) ?? h("code", {}, f.path),
      " ",
      h("strong", {}, f.shown ?? "?"),
      " ",
      f.grade ? h("span", { class: `grade ${f.grade}` }, f.grade) : "",
    ),
    called(f.path) ? h("p", { class: "soft" }, h("code", {}, f.path)) : "",
    h(
      "p",
      { class: "soft" },
      where,
      safe ? [" ", h("a", { href: f.address, rel: "noreferrer noopener", target: "_blank" }, "source")] : "",
    ),
    ...["formula", "reason", "note"].filter((k) => f[k]).map((k) => h("p", { class: "soft" }, `${k}: ${f[k]}`)),
  );
}

/** One fact on its own, for the table of facts. */
export function fact(f, from = null) {
  const [, box] = boxes();
  opener = { metric: "", element: from };
  last = null;
  open(box).replaceChildren(heading("Where it comes from"), source(f));
  box.querySelector("h2").focus({ preventScroll: true });
}

export function clear() {
  $("right").replaceChildren();
  document.body.classList.remove("why");
}

const words = (e, part) => e.part_words?.[part] ?? part.replaceAll("_", " ");

/** "AWS Trn2 UltraServer: step_s" in words. */
const titled = (title) =>
  title.replace(/: ([a-z_A-Z]+)$/, (all, key) => (NAMES[key] ? `: ${NAMES[key]}` : all.replaceAll("_", " ")));
const NAMES = {
  step_s: "time of a step",
  tokens_trained: "tokens trained",
  days: "days",
  usd_per_mtok: "cost of a million tokens",
  J_per_token: "energy of a token",
  memory_B: "memory of a device",
  tokens_per_s_per_chip: "tokens per second and chip",
  mfu: "MFU",
  goodput: "goodput",
  hand_tuned_step_s: "time of a step, hand-tuned",
  breakeven_usd_per_chip_h: "break-even price of a chip-hour",
  ttft_s: "time to the first token",
  tpot_s: "time of an output token",
  tokens_per_s_per_user: "tokens per second and user",
};
const heading = (title) =>
  h(
    "div",
    { class: "bar" },
    h("h2", { tabindex: -1 }, title),
    h(
      "button",
      { type: "button", class: "small quiet", title: "Close the explanation (Escape)", onclick: close },
      "← Back",
    ),
  );

function draw(box, e, metric) {
  const est = e.estimate ?? e;
  const head = quantity(est.value, est.unit);
  const range =
    est.low !== null && est.low !== undefined && est.high > est.low
      ? `90% range ${quantity(est.low, est.unit)} to ${quantity(est.high, est.unit)}`
      : "";
  const all = Object.entries(e.parts ?? {}).sort((a, b) => b[1] - a[1]);
  const total = all.reduce((a, [, v]) => a + v, 0);
  const parts = all.filter(([, v]) => Math.abs(v) > 1e-6 * Math.abs(total)); // the rest has no length in the bar
  const moves = (e.moves ?? []).slice(0, 6);
  box.replaceChildren(
    heading(titled(e.title)),
    h("p", { class: "big" }, head, " ", est.grade ? h("span", { class: `grade ${est.grade}` }, est.grade) : ""),
    range ? h("p", { class: "soft" }, range) : "",
    est.reason ? h("p", { class: "warning" }, est.reason) : "",
    e.says ? h("p", {}, `${e.says[0].toUpperCase()}${e.says.slice(1)}.`) : "",
    e.formula ? h("p", { class: "formula" }, `= ${e.formula}`) : "",
    e.words ? h("p", {}, e.words) : "",
    e.formula && Object.keys(e.inputs ?? {}).length
      ? h(
          "p",
          { class: "soft" },
          Object.entries(e.inputs)
            .map(([k, v]) => `${k} ${putIn(v, e.units?.[k])}`)
            .join(", "),
        )
      : "",
    parts.length > 1 ? h("h3", {}, "Sum of") : "",
    parts.length > 1
      ? h(
          "ul",
          { class: "parts" },
          parts.map(([k, v]) =>
            h(
              "li",
              {},
              metric.split(".").length > 2
                ? h("span", {}, words(e, k))
                : h(
                    "button",
                    {
                      type: "button",
                      class: "link",
                      onclick: (event) => explain(last.ask, `${metric}.${k}`, event.currentTarget),
                    },
                    words(e, k),
                  ),
              h("meter", { min: 0, max: total, value: v, "aria-label": k }),
              h("span", {}, `${quantity(v, est.unit)}, ${number((100 * v) / total)}%`),
            ),
          ),
        )
      : "",
    e.terms?.length ? h("h3", {}, "Formulas") : "",
    ...(e.terms ?? [])
      .slice()
      .reverse()
      .slice(0, 40)
      .map((t) =>
        h(
          "details",
          { class: "term" },
          h("summary", {}, h("code", {}, t.name), " ", quantity(t.value, t.unit)),
          t.formula ? h("p", { class: "formula" }, `= ${t.formula}`) : t.words ? h("p", {}, t.words) : "",
          Object.keys(t.inputs ?? {}).length
            ? h(
                "p",
                { class: "soft" },
                Object.entries(t.inputs)
                  .map(([k, v]) => `${k} ${putIn(v, t.units?.[k])}`)
                  .join(", "),
              )
            : "",
          t.note ? h("p", { class: "soft" }, t.note) : "",
          t.facts?.length
            ? h(
                "p",
                { class: "soft" },
                "Facts: ",
                t.facts.map((path, i) => [i ? "; " : "", h("span", { title: path }, called(path) ?? path)]),
              )
            : "",
        ),
      ),
    moves.length ? h("h3", {}, "What would move it most") : "",
    moves.length
      ? h(
          "ul",
          { class: "moves" },
          moves.map((m) =>
            h(
              "li",
              {},
              h("span", { title: m.fact }, e.fact_labels?.[m.fact] ?? m.fact),
              `: ${signed(m.at_low)} at its low end, ${signed(m.at_high)} at its high end`,
              m.flips ? h("strong", {}, ` ${m.flips === true ? "and the winner changes" : m.flips}`) : "",
            ),
          ),
        )
      : "",
    e.facts?.length ? h("h3", {}, "Facts") : "",
    ...(e.facts ?? []).map(source),
  );
  box.querySelector("details.term")?.setAttribute("open", "");
}

const signed = (share) =>
  share === null || share === undefined ? "?" : `${share >= 0 ? "+" : ""}${number(100 * share, 2)}%`;
