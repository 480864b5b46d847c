// The brief of Trainium 3: a table of jobs, then questions, each with a verdict, a picture, why, and the numbers
// with their commands. It is there at once: the answer that ships; where this server has other facts, it is made
// again meanwhile.

import { $, download, h, head } from "./dom.js";
import { get, page, post } from "./api.js";
import { state } from "./state.js";
import { figure, show as showCharts } from "./charts.js";
import { tableOf } from "./pages.js";
import { skeleton, waiting } from "./waiting.js";
import * as drawer from "./explain.js";

const ASK = {};
let answer = null;

export async function show() {
  index(null);
  if (!answer) {
    $("view").replaceChildren(skeleton(9));
    answer = await get("/first.json");
  }
  if (state.tab !== "brief") return;
  draw();
  if (answer.current === false) renew();
}

/** Make it again of the facts of this server; the one that ships stays until then. */
async function renew() {
  $("status").replaceChildren(
    h(
      "p",
      { class: "note" },
      `Made of other facts than those of this server (facts ${answer.result.facts_hash}). It is made ` +
        `again meanwhile.`,
    ),
  );
  const done = waiting("brief", $("status"), "Making the brief of these facts");
  try {
    const now = await post("/api/brief", ASK);
    done();
    answer = { ...now, current: true };
    if (state.tab === "brief") draw();
  } catch (error) {
    done(false);
    if (state.tab === "brief") $("status").append(h("p", { class: "refused" }, `Not made again: ${error.message}`));
  }
}

/** Left: the questions as links. */
function index(stories) {
  $("left").replaceChildren(
    h(
      "details",
      { class: "all", open: window.innerWidth > 900 },
      h("summary", {}, "The questions"),
      h(
        "nav",
        { class: "questions", "aria-label": "Questions of the brief" },
        stories
          ? h(
              "ol",
              {},
              stories.map((s, i) =>
                h(
                  "li",
                  {},
                  h(
                    "button",
                    {
                      type: "button",
                      class: "link",
                      onclick: () => {
                        const at = $(`question-${i + 1}`);
                        at.scrollIntoView({ block: "start" });
                        at.querySelector("h2").focus({ preventScroll: true });
                      },
                    },
                    s.question,
                  ),
                ),
              ),
            )
          : skeleton(6),
      ),
    ),
  );
}

const explain = (metric, from) => drawer.explain(ASK, metric, from);

function story(s, i) {
  const numbers = h(
    "details",
    {
      ontoggle: () =>
        numbers.open &&
        numbers.childElementCount === 1 &&
        numbers.append(
          tableOf({ ...s.table, title: "" }, 60, explain),
          ...s.commands.map((c) => h("p", { class: "made" }, h("code", {}, c))),
        ),
    },
    h("summary", {}, "The numbers, and the command behind each", h("span", { class: "sr" }, `: ${s.question}`)),
  );
  return h(
    "section",
    { class: "story", id: `question-${i + 1}`, "aria-label": s.question },
    h("h2", { tabindex: -1 }, `${i + 1}. ${s.question}`),
    h("p", { class: "verdict" }, s.verdict),
    h(
      "div",
      { class: "two" },
      h(
        "ul",
        {},
        s.why.map((text) => h("li", {}, text)),
      ),
      figure(s.chart, s.commands[0]),
    ),
    numbers,
  );
}

/** The table of jobs, and below it where each of them flips: sentences have no room in a column. */
function jobs(t) {
  const at = t.head.indexOf("where it flips");
  const without = (row) => row.filter((_, i) => i !== at);
  return [
    tableOf({ ...t, head: without(t.head), rows: t.rows.map(without) }, 60, explain),
    flips(at < 0 ? [] : answer.result.table),
  ];
}

function flips(rows) {
  const told = rows.filter((row) => row.flips);
  return told.length
    ? h(
        "section",
        { "aria-label": "Where it flips" },
        h("h2", {}, "Where it flips"),
        h(
          "ul",
          {},
          told.map((row) => h("li", {}, h("b", {}, `${row.work}, beside ${row.rival_name}: `), row.flips)),
        ),
      )
    : "";
}

function draw() {
  const { result, view } = answer;
  const before = result.headline ?? [view.headline];
  head({ headline: view.title, under: view.headline });
  $("footing").textContent = view.assumptions
    .filter(([, v]) => v)
    .map(([k, v]) => `${k}: ${v}`)
    .join("; ");
  $("status").replaceChildren();
  index(view.stories);
  const charts = h("div", { class: "charts one" });
  $("view").replaceChildren(
    h("p", { class: "verdict lead" }, before.join(" ")),
    ...view.tables.flatMap(jobs),
    charts,
    ...view.stories.map(story),
    h(
      "p",
      { class: "note" },
      "Made by ",
      h("code", {}, answer.command),
      ` of facts ${result.facts_hash}, version ${result.version}. Each number has a 90% range; open the ` +
        `numbers of a question to ask why.`,
    ),
  );
  showCharts(charts, view.charts, answer.command);
  side(view);
  performance.mark("answer");
  $("centre").setAttribute("aria-busy", "false");
}

/** Right: what the words mean, and where to go on. */
function side(view) {
  const [card] = drawer.boxes();
  card.hidden = false;
  card.replaceChildren(
    h("h2", {}, "How to read this"),
    h(
      "p",
      {},
      "Each verdict follows by rules from the numbers below it. A range says where the number lies with " +
        "90% probability.",
    ),
    h(
      "p",
      {},
      "No price of Trainium 3 is published (searched 2026-11: AWS price pages). So machines are compared " +
        "at what they cost to build, house and run, and the brief says at which price Trainium 3 would cost " +
        "the same as its rivals.",
    ),
    h("h3", {}, "Ask your own question"),
    h(
      "p",
      {},
      "Train and Serve take any model, chips, lengths and prices. Fleet says what to buy and what stands " +
        "idle. Accuracy says how far to trust it.",
    ),
    h("h3", {}, "Beside"),
    h("p", {}, view.assumptions.find(([k]) => k === "beside")?.[1] ?? ""),
  );
}

export const take = {
  json: () => download("brief.json", `${JSON.stringify(answer.result, null, 1)}\n`, "application/json"),
  html: async () => download("brief.html", await page("/api/report", ASK), "text/html"),
  command: () => answer?.command,
};
