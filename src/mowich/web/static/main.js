// Start: tabs, keys, theme, what can be taken away.

import { $, h } from "./dom.js";
import { post } from "./api.js";
import { GROUPS, TABS, asksJob, change, differing, fromHash, shown, state, toHash, watch } from "./state.js";
import * as form from "./form.js";
import * as results from "./results.js";
import * as brief from "./brief.js";
import * as drawer from "./explain.js";
import { learn } from "./words.js";

const LATE = {
  brief: async () => brief,
  rl: () => import("./rl.js"),
  fleet: () => import("./fleet.js"),
  kernel: () => import("./kernel.js"),
  facts: () => import("./facts.js"),
  accuracy: () => import("./accuracy.js"),
};
const ASKED = ["forward", "gap", "value", "prices", "claims"]; // of one verb each
for (const name of ASKED) LATE[name] = async () => (await import("./views.js")).viewOf(name);

const row = window.matchMedia("(max-width: 900px)"); // the rail lies on its side there: app.css

function tabs() {
  const groups = GROUPS.map(([name, views]) => [
    name ? h("span", { class: "group", "aria-hidden": "true" }, name) : [],
    views.map(([id, label]) =>
      h(
        "button",
        {
          ...{ type: "button", role: "tab", id: `tab-${id}`, "aria-controls": "view" },
          ...{ "aria-description": name || null, onclick: () => go(id) },
        },
        label,
      ),
    ),
  ]);
  const rail = $("tabs");
  rail.replaceChildren(...groups.flat(9));
  const made = [...rail.querySelectorAll("[role=tab]")];
  rail.addEventListener("keydown", (e) => {
    const at = made.indexOf(document.activeElement);
    const [back, on] = row.matches ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
    const to = { [back]: at - 1, [on]: at + 1, Home: 0, End: made.length - 1 }[e.key];
    if (to === undefined || at < 0) return;
    e.preventDefault();
    const next = made[(to + made.length) % made.length];
    next.focus();
    next.click();
  });
  const lie = () => rail.setAttribute("aria-orientation", row.matches ? "horizontal" : "vertical");
  row.addEventListener("change", lie);
  lie();
}

function mark() {
  for (const [id] of TABS) {
    const tab = $(`tab-${id}`);
    tab.setAttribute("aria-selected", String(state.tab === id));
    tab.tabIndex = state.tab === id ? 0 : -1;
  }
  const { left, width } = $(`tab-${state.tab}`).getBoundingClientRect();
  $("tabs").scrollLeft += left + (width - window.innerWidth) / 2; // scrollIntoView would move where Tab begins
  $("view").setAttribute("aria-labelledby", `tab-${state.tab}`);
  $("panes").dataset.tab = state.tab;
  tools();
}

async function go(tab) {
  if (tab === state.tab && $("view").childElementCount) return;
  change({ tab }, true);
  mark();
  save();
  window.scrollTo(0, 0);
  await enter();
}

async function enter() {
  drawer.clear();
  for (const id of ["view", "headline", "under"]) $(id).classList.remove("stale");
  $("status").replaceChildren();
  for (const id of ["under", "footing"]) $(id).textContent = "";
  if (!asksJob() && state.tab !== "facts") $("left").replaceChildren();
  if (asksJob()) {
    $("view").replaceChildren();
    form.redraw();
    if (results.fits()) results.render();
    results.refresh();
    return;
  }
  if (state.tab === "facts") form.redraw();
  const tab = state.tab;
  $("centre").setAttribute("aria-busy", "true");
  if (tab !== "brief") $("view").replaceChildren();
  try {
    const module = await LATE[tab]();
    if (state.tab === tab) await module.show();
  } catch (error) {
    if (state.tab !== tab) return;
    $("status").replaceChildren();
    $("view").replaceChildren(h("div", { class: "refused", role: "alert" }, error.message));
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
  said = setTimeout(() => {
    place.textContent = "";
  }, 3000);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    say("the browser does not let a page copy here");
  }
}

/** What can be taken away of a tab, by the button. */
async function takes() {
  return asksJob() ? results.take : ((await LATE[state.tab]()).take ?? {});
}

const BUTTONS = [
  ["command", "Command", "Copy the command line that gives this result (c)"],
  ["link", "Share", "Copy a short link to this question; the address bar has the long one"],
  ["json", "JSON", "Download the result"],
  ["yaml", "YAML", "Download the scenario"],
  ["html", "HTML", "Download the report: one file, offline"],
];
const HAS = {
  brief: ["command", "link", "json", "html"],
  train: ["command", "link", "json", "yaml", "html"],
  serve: ["command", "link", "json", "yaml", "html"],
  ...Object.fromEntries(ASKED.map((name) => [name, ["command", "link", "json", "html"]])),
  rl: ["command", "link", "json", "yaml", "html"],
  fleet: ["command", "link", "json", "yaml", "html"],
  kernel: ["command"],
  facts: ["link"],
  accuracy: ["link"],
};

/** Copy a short link, which the server keeps; the long address where it keeps none. */
async function share() {
  const question = differing();
  if (!Object.keys(question).length) return copy(`${location.origin}/`, "link");
  try {
    const { result } = await post("/api/link", { question });
    return copy(`${location.origin}${result.path}`, "short link");
  } catch (error) {
    await copy(`${location.origin}/#${await toHash()}`, "long address");
    return say(`long address copied: ${error.message}`);
  }
}

async function press(id) {
  try {
    if (id === "link") return await share();
    const take = await takes();
    if (id !== "command") return await take[id]?.();
    const words = take.command?.();
    return words ? await copy(words, "command") : say("nothing to copy yet");
  } catch (error) {
    return say(error.message);
  }
}

/** The buttons that have a meaning on this tab. */
function tools() {
  if (!$("said")) {
    const dark = h(
      "button",
      {
        type: "button",
        class: "small",
        id: "theme",
        title: "Light or dark",
        "aria-label": "Switch between light and dark",
        onclick: () => theme(),
      },
      "◐",
    );
    $("tools").replaceChildren(
      h("span", { id: "said", role: "status", class: "soft" }),
      ...BUTTONS.map(([id, label, title]) =>
        h("button", { type: "button", class: "small", "data-tool": id, title, onclick: () => press(id) }, label),
      ),
      dark,
    );
  }
  $("tools")
    .querySelectorAll("[data-tool]")
    .forEach((b) => {
      b.hidden = !HAS[state.tab].includes(b.dataset.tool);
    });
}

function theme() {
  const now =
    document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  document.dispatchEvent(new Event("themechange"));
}

function keys() {
  document.addEventListener("keydown", async (e) => {
    const typing = e.target.matches?.(
      "input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select",
    );
    if (e.key === "Escape" && !typing) drawer.close();
    if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/" && asksJob()) {
      e.preventDefault();
      const all = document.querySelector("details.all");
      if (all) all.open = true;
      $("model")?.focus();
    } else if (e.key === "e" && asksJob() && shown.answer) {
      drawer.explain(
        shown.body,
        document.activeElement?.dataset?.metric ?? results.mainMetric(),
        document.activeElement,
      );
    } else if (e.key === "c") {
      press("command");
    }
  });
}

async function start() {
  Object.assign(state, await fromHash(location.hash.slice(1)));
  tabs();
  keys();
  document.querySelector(".skip").addEventListener("click", (e) => {
    // the address behind # is the question, so it stays
    e.preventDefault();
    $("centre").focus();
  });
  mark();
  document.addEventListener("kept", save);
  if (asksJob()) results.refresh();
  else await enter();
  await form.build();
  learn();
  watch((changed) => {
    save();
    if (changed.includes("all")) mark();
    if (asksJob()) results.refresh(!changed.includes("all"));
    else if (state.tab === "facts" && changed.some((k) => ["on", "all"].includes(k)))
      LATE.facts().then((m) => m.show());
  });
  window.addEventListener("hashchange", async () => {
    Object.assign(state, await fromHash(location.hash.slice(1)));
    mark();
    await enter();
  });
}

start();
