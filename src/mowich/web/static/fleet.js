// Fleet: a scenario that ships or is written, in whole units with the gap to the bound; fractions of units at
// once while it is edited.

import { $, debounce, download, h, head, number } from "./dom.js";
import { Refused, once, page, post } from "./api.js";
import { change, state } from "./state.js";
import { pageOf } from "./pages.js";
import { choice } from "./question.js";
import { skeleton, waiting } from "./waiting.js";
import * as drawer from "./explain.js";

let yaml = null; // null: the scenario that is picked, as it ships
let answer = null;
let running = null;
let shipped = [];

const picked = () => shipped.find((s) => s.name === state.scenario) ?? shipped[0];
const text = () => yaml ?? picked().text;

export async function show() {
  shipped = (await once("/api/scenarios")).result.scenarios;
  head(answer?.view ?? "Which machines for which work");
  $("status").replaceChildren();
  question();
  if (!$("fleet-answer"))
    $("view").replaceChildren(
      h(
        "div",
        { class: "fleet" },
        h("p", { id: "fleet-state", class: "soft", role: "status" }),
        h("div", { id: "fleet-wrong" }),
        h("div", { id: "fleet-answer" }),
      ),
    );
  if (answer && answer.asked.yaml === text()) draw();
  else await solve(false);
  $("centre").setAttribute("aria-busy", "false");
}

/** Left: the scenario, and its text. */
function question() {
  const area = h("textarea", {
    id: "fleet-yaml",
    rows: 22,
    spellcheck: "false",
    "aria-label": "Fleet scenario as YAML",
    oninput: () => {
      yaml = area.value === picked().text ? null : area.value;
      live();
    },
  });
  area.value = text();
  const whole = h(
    "button",
    { type: "button", class: "small", id: "fleet-whole", onclick: () => solve(false) },
    "Solve in whole units",
  );
  $("left").replaceChildren(
    choice(
      "scenario",
      "Scenario",
      shipped.map((s) => [s.name, s.name]),
      yaml === null ? picked().name : "",
      (name) => {
        change({ scenario: name }, true);
        document.dispatchEvent(new Event("kept"));
        yaml = null;
        question();
        $("left")
          .querySelector(`input[value="${CSS.escape(name)}"]`)
          ?.focus();
        solve(false);
      },
    ),
    h("p", { class: "note" }, `${picked().what}.`),
    h("div", { class: "row" }, whole),
    h(
      "details",
      { class: "fold", open: yaml !== null || $("left").querySelector("details.fold")?.open },
      h("summary", {}, "Change the scenario (YAML)"),
      h(
        "p",
        { class: "note" },
        "While you write it is solved in fractions of units, which takes a moment; whole units on a click.",
      ),
      area,
      h("p", { class: "wrong", id: "wrong-yaml" }),
    ),
  );
}

const live = debounce(300, () => solve(true));

async function solve(relaxed) {
  if (!$("fleet-state")) return; // another tab by now
  running?.abort();
  const own = new AbortController();
  running = own;
  $("fleet-state").textContent = relaxed ? "Solving in fractions of units …" : "Solving in whole units …";
  if (answer) $("fleet-answer").classList.add("stale");
  else $("fleet-answer").replaceChildren(skeleton(9));
  const done = waiting("fleet", $("status"), "Solving");
  try {
    const asked = { yaml: text(), relaxed };
    const got = await post("/api/fleet", asked, own.signal);
    done(!relaxed);
    if (own.signal.aborted) return;
    answer = { ...got, asked };
    if (state.tab === "fleet") draw();
  } catch (error) {
    done(false);
    if (own.signal.aborted || error.name === "AbortError" || !$("fleet-state")) return;
    $("fleet-state").textContent = "";
    const lines = error instanceof Refused ? error.errors.map((e) => e.line) : [error.message];
    if ($("wrong-yaml")) $("wrong-yaml").textContent = lines.join("\n");
    $("fleet-yaml")?.setAttribute("aria-invalid", "true");
    $("fleet-wrong").replaceChildren(
      h(
        "div",
        { class: "refused", role: "alert" },
        h("strong", {}, "Not computed. "),
        lines.map((line) => h("p", {}, line)),
        answer ? "Below is the last answer." : "",
      ),
    );
  }
}

function draw() {
  const box = $("fleet-answer");
  if (!box) return;
  const r = answer.result;
  box.classList.remove("stale");
  $("fleet-wrong")?.replaceChildren();
  if ($("wrong-yaml")) $("wrong-yaml").textContent = "";
  $("fleet-yaml")?.removeAttribute("aria-invalid");
  head(answer.view);
  $("footing").textContent =
    `${yaml === null ? `scenario ${picked().name}` : "a scenario of yours"}; ` +
    `${r.inputs.relaxed ? "fractions of units" : "whole units"}; facts ${r.facts_hash ?? ""}`;
  const share = r.gap ?? 0;
  if ($("fleet-state"))
    $("fleet-state").replaceChildren(
      `${r.inputs.relaxed ? "Fractions of units" : "Whole units"}. `,
      r.gap === null || r.gap === undefined
        ? ""
        : h(
            "span",
            {},
            "Gap to the bound ",
            h("meter", { min: 0, max: 0.05, value: Math.min(share, 0.05), "aria-label": "gap to the best possible" }),
            ` ${number(100 * share, 2)}%`,
          ),
      share > 0.02 && !r.inputs.relaxed
        ? h(
            "strong",
            { class: "warning" },
            " The time ran out before the best plan was found: solve it again, or with the command, " +
              "before you trust who stands idle.",
          )
        : "",
    );
  const made = h("div", {});
  box.replaceChildren(made);
  pageOf(made, answer.view, {
    strip: false,
    made: take.command(),
    explain: (metric, from) =>
      drawer.explain({ yaml: answer.asked.yaml, relaxed: answer.asked.relaxed }, metric, from),
  });
  box.dataset.objective = String(r.objective);
}

const own = () => yaml !== null;

export const take = {
  json: () => download("fleet.json", `${JSON.stringify(answer.result, null, 1)}\n`, "application/json"),
  yaml: () => download("scenario.yaml", text(), "application/yaml"),
  html: async () => download("fleet.html", await page("/api/report", answer.asked), "text/html"),
  command: () => answer && (own() ? answer.command : `${picked().command}${answer.asked.relaxed ? " --lp" : ""}`),
};
