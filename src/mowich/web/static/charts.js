// Charts: ECharts options that the server made, drawn on canvas, light or dark, each with its numbers as a table below.
// Tooltips are drawn in the canvas: the policy of the page allows no inline style in HTML.

import { h } from "./dom.js";

let loading = null;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map(); // figure -> {chart, option}

export const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

function library() {
  loading ??= Promise.all(["echarts.min.js", "fitted.js"].map((name) => new Promise((resolve, reject) => {
    const script = h("script", { src: `/static/${name}` });
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("charts did not load")));
    document.head.append(script);
  }))).then(() => window.echarts);
  return loading;
}

// only what is in sight is drawn, one chart a frame, so that the numbers of the table are never kept waiting
const sight = new Set();
const seen = new IntersectionObserver((entries) => entries.forEach((e) => {
  if (e.isIntersecting) sight.add(e.target);
  else sight.delete(e.target);
  if (e.isIntersecting) queue();
}), { rootMargin: "150px" });

let queued = false;
function queue() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => setTimeout(async () => { // after the frame that shows the numbers
    const next = [...drawn.keys()].find((place) => sight.has(place) && drawn.get(place).stale);
    if (next) await draw(next);
    queued = false;
    if ([...drawn.keys()].some((place) => sight.has(place) && drawn.get(place).stale)) queue();
    else document.dispatchEvent(new Event("chartsdrawn"));
  }, 0));
}
const sized = new ResizeObserver((entries) => {
  for (const e of entries) {
    const item = drawn.get(e.target);
    item?.chart?.resize();
    if (item && !item.stale && item.width !== e.target.clientWidth) item.stale = true;
  }
  queue();
});

async function draw(place) {
  const item = drawn.get(place);
  if (!item || !item.stale) return;
  const echarts = await library();
  if (!item.stale || drawn.get(place) !== item || !place.isConnected) return;
  item.stale = false;
  const theme = isDark() ? "dark" : null;
  if (item.chart && item.theme !== theme) {
    item.chart.dispose();
    item.chart = null;
  }
  item.theme = theme;
  item.width = place.clientWidth;
  const [fits, more] = window.fitted(item.option, item.width, Boolean(theme));
  place.style.height = `${item.height + more}px`;
  const fresh = !item.chart;
  item.chart ??= echarts.init(place, theme, { renderer: "canvas" });
  const tooltip = { ...(fits.tooltip ?? {}), renderMode: "richText" };
  const option = { animation: false, ...fits, tooltip, aria: { enabled: false } }; // our own label and table
  item.chart.setOption(option, fresh ? { notMerge: true } : { replaceMerge: ["series"] });
  place.dataset.drawn = "yes";
}

function again() {
  for (const [place, item] of drawn) {
    if (!place.isConnected) {
      item.chart?.dispose();
      seen.unobserve(place);
      sized.unobserve(place);
      sight.delete(place);
      drawn.delete(place);
    } else item.stale = true;
  }
  queue();
}
dark.addEventListener("change", again);
document.addEventListener("themechange", again);

/** The same as a table, made when it is opened. */
function numbers(chart) {
  const table = () => h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Numbers of ${chart.title}` },
    h("table", {}, h("thead", {}, h("tr", {}, chart.head.map((t) => h("th", { scope: "col" }, t || "\u00a0")))),
      h("tbody", {}, chart.rows.map((r) => h("tr", {}, r.map((c, i) => (i ? h("td", {}, c) : h("th", { scope: "row" }, c))))))));
  const made = h("details", { ontoggle: () => made.open && made.childElementCount === 1 && made.append(table()) }, h("summary", {}, "Numbers", h("span", { class: "sr" }, ` of ${chart.title}`)));
  return made;
}

/** A figure of one chart. `height`: as the server says unless given. */
export function figure(chart) {
  const place = h("div", { class: "chart", role: "img", "aria-label": `${chart.title}. The numbers follow as a table.` });
  place.style.height = `${chart.height}px`; // until it is drawn
  const made = h("figure", { "data-title": chart.title }, h("h2", {}, chart.title), h("p", { class: "note" }, chart.note), place, numbers(chart));
  drawn.set(place, { option: chart.option, height: chart.height, chart: null, stale: true });
  seen.observe(place);
  sized.observe(place);
  return made;
}

/** Draw charts into a box; figures of the same titles are kept and get the new numbers. */
export function show(box, charts) {
  const old = [...box.children];
  const same = old.length === charts.length && charts.every((c, i) => old[i].dataset.title === c.title);
  if (!same) {
    box.replaceChildren(...charts.map((c) => figure(c)));
    again();
    return;
  }
  charts.forEach((chart, i) => {
    const place = old[i].querySelector(".chart");
    const item = drawn.get(place);
    Object.assign(item, { option: chart.option, height: chart.height, stale: true });
    const open = old[i].querySelector("details").open;
    const table = numbers(chart);
    table.open = open;
    old[i].querySelector("details").replaceWith(table);
    old[i].querySelector(".note").textContent = chart.note;
  });
  queue();
}
