// Start: tabs, keys, theme, what can be taken away.

import { $, h, download } from "./dom.js";
import { page } from "./api.js";
import { change, fromHash, state, toHash, toYaml, watch } from "./state.js";
import * as form from "./form.js";
import * as results from "./results.js";
import * as drawer from "./explain.js";

const TABS = [["compare", "Compare"], ["serve", "Serve"], ["fleet", "Fleet"], ["kernel", "Kernel timeline"], ["facts", "Facts side by side"], ["accuracy", "Accuracy"]];
const LATE = { fleet: () => import("./fleet.js"), kernel: () => import("./kernel.js"), facts: () => import("./facts.js"), accuracy: () => import("./accuracy.js") };

function tabs() {
  const made = TABS.map(([id, label]) => h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": "view", onclick: () => go(id) }, label));
  $("tabs").replaceChildren(...made);
  $("tabs").addEventListener("keydown", (e) => {
    const at = made.indexOf(document.activeElement);
    const to = e.key === "ArrowRight" ? at + 1 : e.key === "ArrowLeft" ? at - 1 : e.key === "Home" ? 0 : e.key === "End" ? made.length - 1 : null;
    if (to === null || at < 0) return;
    e.preventDefault();
    const next = made[(to + made.length) % made.length];
    next.focus();
    next.click();
  });
}

function mark() {
  for (const [id] of TABS) {
    const tab = $(`tab-${id}`);
    tab.setAttribute("aria-selected", String(state.tab === id));
    tab.tabIndex = state.tab === id ? 0 : -1;
  }
  $("view").setAttribute("aria-labelledby", `tab-${state.tab}`);
  $("panes").dataset.tab = state.tab;
}

const live = (tab) => tab === "compare" || tab === "serve";

async function go(tab) {
  if (tab === state.tab && $("view").childElementCount) return;
  const task = tab === "serve" ? "serve" : tab === "compare" ? "train" : state.task;
  change({ tab, task }, true);
  mark();
  save();
  await enter();
}

async function enter() {
  drawer.clear();
  $("view").classList.remove("stale");
  $("headline").classList.remove("stale");
  if (live(state.tab)) {
    $("view").replaceChildren();
    form.redraw();
    const fits = results.shown.body && Boolean(results.shown.body.train) === (state.task === "train");
    if (fits) results.render();
    results.refresh();
    return;
  }
  const tab = state.tab;
  $("centre").setAttribute("aria-busy", "true");
  $("view").replaceChildren(h("p", { class: "soft" }, "…"));
  try {
    const module = await LATE[tab]();
    if (state.tab === tab) await module.show();
  } catch (error) {
    if (state.tab !== tab) return;
    $("status").replaceChildren();
    $("view").replaceChildren(h("div", { class: "refused" }, error.message));
    $("centre").setAttribute("aria-busy", "false");
  }
}

let saving = 0;
function save() {
  clearTimeout(saving);
  saving = setTimeout(async () => {
    const hash = await toHash();
    if (location.hash.slice(1) !== hash) history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  }, 150);
}

let said = 0;
function say(text) {
  const place = $("said");
  place.textContent = text;
  clearTimeout(said);
  said = setTimeout(() => { place.textContent = ""; }, 3000);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    say("the browser does not let a page copy here");
  }
}

async function command() {
  if (state.tab === "fleet") return (await LATE.fleet()).shown()?.command;
  return results.shown.answer?.command;
}

function tools() {
  const button = (label, title, act) => h("button", { type: "button", class: "small", title, onclick: async () => { try { await act(); } catch (error) { say(error.message); } } }, label);
  const fleet = async () => (await LATE.fleet());
  $("tools").replaceChildren(
    button("Command", "Copy the command line that gives this result (c)", async () => copy(await command(), "command")),
    button("Link", "Copy a link to this question", async () => { const hash = await toHash(); await copy(`${location.origin}/${hash ? `#${hash}` : ""}`, "link"); }),
    button("JSON", "Download the result", async () => (state.tab === "fleet" ? download("fleet.json", `${JSON.stringify((await fleet()).shown().result, null, 1)}\n`, "application/json") : results.take.json())),
    button("YAML", "Download the scenario", async () => download("scenario.yaml", state.tab === "fleet" ? (await fleet()).scenario() : toYaml(), "application/yaml")),
    button("HTML", "Download the report: one file, offline", async () => (state.tab === "fleet" ? download("fleet.html", await page("/api/report", { yaml: (await fleet()).scenario(), relaxed: (await fleet()).shown().result.inputs.relaxed }), "text/html") : results.take.html())),
    button("◐", "Light or dark", () => theme()),
    h("span", { id: "said", role: "status", class: "soft" }),
  );
  $("tools").querySelectorAll("button")[5].setAttribute("aria-label", "Switch between light and dark");
}

function theme() {
  const now = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  document.dispatchEvent(new Event("themechange"));
}

function keys() {
  document.addEventListener("keydown", async (e) => {
    const typing = e.target.matches?.("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select");
    if (e.key === "Escape" && !typing) drawer.close();
    if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/") {
      e.preventDefault();
      const all = document.querySelector("details.all");
      if (all) all.open = true;
      $("model")?.focus();
    } else if (e.key === "e" && live(state.tab) && results.shown.answer) {
      const chosen = document.activeElement?.dataset?.metric;
      const row = results.shown.answer.result.rows[results.shown.row];
      drawer.explain(results.shown.body, chosen ?? `${row.system}.${row.step_s ? "step_s" : "tpot_s"}`, document.activeElement);
    } else if (e.key === "c") {
      const words = await command();
      if (words) copy(words, "command");
    }
  });
}

async function start() {
  Object.assign(state, await fromHash(location.hash.slice(1)));
  tabs();
  tools();
  keys();
  document.querySelector(".skip").addEventListener("click", (e) => { // the address behind # is the question, so it stays
    e.preventDefault();
    $("centre").focus();
  });
  mark();
  if (live(state.tab)) {
    if (location.hash.length > 1) results.refresh();
    else await results.first();
    performance.mark("answer");
  } else enter();
  await form.build();
  watch((changed) => {
    save();
    if (changed.includes("task") && live(state.tab)) {
      state.tab = state.task === "serve" ? "serve" : "compare";
      mark();
    }
    if (live(state.tab)) results.refresh(!changed.includes("all"));
    else if (state.tab === "facts" && changed.some((k) => ["on", "all"].includes(k))) LATE.facts().then((m) => m.show());
  });
  window.addEventListener("hashchange", async () => {
    Object.assign(state, await fromHash(location.hash.slice(1)));
    mark();
    form.redraw();
    await enter();
  });
}

start();
