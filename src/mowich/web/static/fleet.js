// Fleet: a scenario as YAML; fractions of units at once while it is edited (LP), whole units on a click (MILP) with the gap to the bound.

import { $, debounce, h, number } from "./dom.js";
import { Refused, post } from "./api.js";
import { pageOf } from "./pages.js";
import * as drawer from "./explain.js";

let yaml = null;
let answer = null;
let running = null;

async function example() {
  yaml ??= await (await fetch("/static/fleet.yaml")).text();
}

export async function show() {
  await example();
  $("headline").textContent = answer?.view.headline ?? "Which machines for which work";
  $("status").replaceChildren();
  const text = h("textarea", { id: "fleet-yaml", rows: 24, spellcheck: "false", "aria-label": "Fleet scenario as YAML", oninput: () => { yaml = text.value; live(); } });
  text.value = yaml;
  const whole = h("button", { type: "button", id: "fleet-whole", onclick: () => solve(false) }, "Solve in whole units");
  $("view").replaceChildren(h("div", { class: "fleet" }, h("div", { class: "ask" }, h("label", { for: "fleet-yaml" }, "Scenario (docs/fleet.md)"), text, h("div", { class: "row" }, whole, h("span", { id: "fleet-state", class: "soft", role: "status" }))), h("div", { id: "fleet-answer" })));
  if (answer) draw();
  else await solve(true);
  $("centre").setAttribute("aria-busy", "false");
}

const live = debounce(300, () => solve(true));

async function solve(relaxed) {
  if (!$("fleet-state")) return; // another tab by now
  running?.abort();
  const own = new AbortController();
  running = own;
  $("fleet-state").textContent = relaxed ? "solving in fractions …" : "solving in whole units …";
  $("fleet-answer").classList.add("stale");
  try {
    const asked = { yaml, relaxed };
    const got = await post("/api/fleet", asked, own.signal);
    if (own.signal.aborted) return;
    answer = got;
    answer.asked = asked;
    draw();
  } catch (error) {
    if (own.signal.aborted || error.name === "AbortError" || !$("fleet-state")) return;
    $("fleet-state").textContent = "";
    $("fleet-answer").prepend(h("div", { class: "refused" }, error instanceof Refused ? error.errors.map((e) => h("p", {}, e.line)) : error.message));
  }
}

function draw() {
  const box = $("fleet-answer");
  if (!box) return;
  const r = answer.result;
  box.classList.remove("stale");
  $("headline").textContent = answer.view.headline;
  const share = r.gap ?? 0;
  if ($("fleet-state")) $("fleet-state").replaceChildren(`${r.inputs.relaxed ? "Fractions of units" : "Whole units"}. `, r.gap === null || r.gap === undefined ? "" : h("span", {}, "Gap to the bound ", h("meter", { min: 0, max: 0.05, value: Math.min(share, 0.05), "aria-label": "gap to the best possible" }), ` ${number(100 * share, 2)}%`));
  const page = h("div", {});
  box.replaceChildren(page);
  pageOf(page, answer.view, { explain: (metric, from) => drawer.explain({ yaml: answer.asked.yaml, relaxed: answer.asked.relaxed }, metric, from) });
  box.dataset.objective = String(r.objective);
}

export const shown = () => answer;
export const scenario = () => yaml;
