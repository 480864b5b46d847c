// Charts: ECharts options that the server made, drawn on canvas, light or dark, each with its numbers as a table
// below. Tooltips are drawn in the canvas: the policy of the page allows no inline style in HTML.

import { h, number } from "./dom.js";

let loading = null;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map(); // figure -> {chart, option}

export const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";

export function library() {
  loading ??= Promise.all(
    ["echarts.min.js", "colours.js", "fitted.js"].map(
      (name) =>
        new Promise((resolve, reject) => {
          const script = h("script", { src: `/static/${name}` });
          script.addEventListener("load", resolve);
          script.addEventListener("error", () => reject(new Error("charts did not load")));
          document.head.append(script);
        }),
    ),
  ).then(() => window.echarts);
  return loading;
}

// only what is in sight is drawn, one chart a frame, so that the numbers of the table are never kept waiting
const sight = new Set();
const seen = new IntersectionObserver(
  (entries) =>
    entries.forEach((e) => {
      if (e.isIntersecting) sight.add(e.target);
      else sight.delete(e.target);
      if (e.isIntersecting) queue();
    }),
  { rootMargin: "150px" },
);

let queued = false;
function queue() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() =>
    setTimeout(async () => {
      // after the frame that shows the numbers
      const next = [...drawn.keys()].find((place) => sight.has(place) && drawn.get(place).stale);
      if (next) await draw(next);
      queued = false;
      if ([...drawn.keys()].some((place) => sight.has(place) && drawn.get(place).stale)) queue();
      else document.dispatchEvent(new Event("chartsdrawn"));
    }, 0),
  );
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
  const [fits, more] = window.fitted(item.views[item.way] ?? item.option, item.width, Boolean(theme));
  place.style.height = `${item.height + more}px`;
  const fresh = !item.chart;
  item.chart ??= echarts.init(place, theme, { renderer: "canvas" });
  const tooltip = { ...(fits.tooltip ?? {}), renderMode: "richText" };
  const series = fits.series?.map((s) => (isReached(s) ? { ...s, tooltip: inLines(item.width) } : s));
  const option = { animation: false, ...fits, series, tooltip, aria: { enabled: false } }; // our own label and table
  item.chart.setOption(option, fresh ? { notMerge: true } : { replaceMerge: ["series"] });
  place.dataset.drawn = "yes";
  reach(place, item.chart, fits);
}

const isReached = (series) => String(series.id ?? "").startsWith("dots ");

/** The words of a dot in lines that a chart so wide holds: one that is too long would be cut. */
function inLines(width) {
  const most = Math.floor(Math.min(width - 60, 420) / 7);
  const broken = (text) =>
    text.split(" ").reduce((all, word) => {
      const last = all.at(-1);
      return last && last.length + word.length < most ? [...all.slice(0, -1), `${last} ${word}`] : [...all, word];
    }, []);
  return { formatter: ({ seriesName, name }) => [seriesName, name].flatMap(broken).join("\n") };
}

/** Measured dots by the keyboard: one stop for all, arrows go on to the next. They lie over the picture, say what they
 * are and who measured, and let the pointer through to it. */
function reach(place, chart, { series = [], xAxis, yAxis }) {
  const over = place.nextElementSibling;
  const held = over.contains(document.activeElement) ? [...over.children].indexOf(document.activeElement) : -1;
  const says = (value) => [xAxis, yAxis].map((axis, i) => `${number(value[i])} ${axis.name}`).join(", ");
  const dots = series.flatMap((s, seriesIndex) =>
    isReached(s)
      ? s.data.map(({ name, value }, dataIndex) => {
          const dot = h("span", {
            role: "img",
            tabindex: -1,
            "aria-label": `${s.name.split(",")[0]}, ${name}: ${says(value)}`,
            onfocus: () => chart.dispatchAction({ type: "showTip", seriesIndex, dataIndex }),
            onblur: () => chart.dispatchAction({ type: "hideTip" }),
          });
          const [left, top] = chart.convertToPixel({ seriesIndex }, value);
          Object.assign(dot.style, { left: `${left}px`, top: `${top}px` });
          return dot;
        })
      : [],
  );
  over.hidden = !dots.length;
  over.replaceChildren(...dots);
  if (dots.length) dots[Math.max(0, Math.min(held, dots.length - 1))].tabIndex = 0;
  if (held >= 0) dots[Math.min(held, dots.length - 1)]?.focus();
}

function between(e) {
  const dots = [...e.currentTarget.children];
  const at = dots.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: -1 }[e.key];
  if (to === undefined || at < 0) return;
  e.preventDefault();
  dots[at].tabIndex = -1;
  const next = dots.at(to % dots.length);
  next.tabIndex = 0;
  next.focus();
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

// on paper every chart is drawn, in light colours, at once: what was never in sight too
const PAPER = 660;
window.addEventListener("beforeprint", () => {
  if (!window.echarts) return;
  for (const [place, item] of drawn) {
    if (!place.isConnected || !place.clientWidth) continue;
    item.chart?.dispose();
    const [fits, more] = window.fitted(item.views[item.way] ?? item.option, PAPER, false);
    place.style.height = `${item.height + more}px`;
    item.chart = window.echarts.init(place, null, { renderer: "canvas", width: PAPER, height: item.height + more });
    item.chart.setOption({ animation: false, ...fits, aria: { enabled: false } });
  }
});
window.addEventListener("afterprint", () => {
  for (const item of drawn.values()) {
    item.chart?.dispose();
    item.chart = null;
    item.stale = true;
  }
  queue();
});
setTimeout(
  () =>
    library().catch(() => {
      loading = null;
    }),
  1000,
); // so that paper finds it; not before the first paint, which would wait for it

const MOST_COLUMNS = 7;

/** Heads and rows of a chart's numbers; many columns stand below one another, so that none is cut. */
function upright(chart) {
  if (chart.head.length <= MOST_COLUMNS || chart.rows.length >= chart.head.length) return [chart.head, chart.rows];
  return [
    ["", ...chart.rows.map((r) => r[0])],
    chart.head.slice(1).map((name, i) => [name, ...chart.rows.map((r) => r[i + 1])]),
  ];
}

/** The same as a table, made when it is opened. */
function numbers(chart) {
  const [head, rows] = upright(chart);
  const table = () =>
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Numbers of ${chart.title}` },
      h(
        "table",
        { role: "table", class: head.length > 3 ? "records" : null },
        h(
          "thead",
          { role: "rowgroup" },
          h(
            "tr",
            { role: "row" },
            head.map((t) => h("th", { scope: "col", role: "columnheader" }, t || "\u00a0")),
          ),
        ),
        h(
          "tbody",
          { role: "rowgroup" },
          rows.map((r) =>
            h(
              "tr",
              { role: "row" },
              r.map((c, i) =>
                i
                  ? h("td", { role: "cell", "data-label": head[i] }, c)
                  : h("th", { scope: "row", role: "rowheader" }, c),
              ),
            ),
          ),
        ),
      ),
    );
  const made = h(
    "details",
    { ontoggle: () => made.open && made.childElementCount === 1 && made.append(table()) },
    h("summary", {}, "Numbers", h("span", { class: "sr" }, ` of ${chart.title}`)),
  );
  return made;
}

/** What makes the chart. */
function command(text) {
  const pre = h("pre", {}, text);
  const copy = h(
    "button",
    {
      type: "button",
      onclick: async () => {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
        setTimeout(() => {
          copy.textContent = "Copy";
        }, 1500);
      },
    },
    "Copy",
  );
  return h("details", {}, h("summary", {}, "Command"), pre, copy);
}

/** Buttons for the ways to draw a chart; none where there is one. */
function ways(chart, place) {
  const names = Object.keys(chart.views ?? {});
  if (names.length < 2) return "";
  const buttons = names.map((name, i) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": String(i === 0),
        onclick: () => {
          buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
          Object.assign(drawn.get(place), { way: name, stale: true });
          queue();
        },
      },
      name,
    ),
  );
  return h("div", { class: "views", role: "group", "aria-label": `${chart.title}, drawn as` }, buttons);
}

const noteOf = (chart) => (chart.finding ? `${chart.title}. ${chart.note}`.trim() : chart.note);

/** A figure of one chart below what one sees in it. made: the command of the answer, where the chart has none of
 * its own. */
export function figure(chart, made = "") {
  const place = h("div", {
    class: "chart",
    role: "img",
    "aria-label": `${chart.title}. The numbers follow as a table.`,
  });
  place.style.height = `${chart.height}px`; // until it is drawn
  drawn.set(place, {
    option: chart.option,
    views: chart.views ?? {},
    way: "",
    height: chart.height,
    chart: null,
    stale: true,
  });
  const own = chart.command || made;
  const figure = h(
    "figure",
    { "data-title": chart.title },
    h("h2", {}, chart.finding || chart.title),
    h("p", { class: "note" }, noteOf(chart)),
    ways(chart, place),
    h(
      "div",
      { class: "plot" },
      place,
      h("div", { role: "group", "aria-label": `Dots of ${chart.title}`, hidden: true, onkeydown: between }),
    ),
    h("div", { class: "under" }, numbers(chart), own ? command(own) : ""),
  );
  seen.observe(place);
  sized.observe(place);
  return figure;
}

/** Draw charts into a box; figures of the same titles are kept and get the new numbers. made: the command of the
 * answer. */
export function show(box, charts, made = "") {
  const old = [...box.children];
  const same = old.length === charts.length && charts.every((c, i) => old[i].dataset.title === c.title);
  if (!same) {
    box.replaceChildren(...charts.map((c) => figure(c, made)));
    again();
    return;
  }
  charts.forEach((chart, i) => {
    const place = old[i].querySelector(".chart");
    const item = drawn.get(place);
    Object.assign(item, { option: chart.option, views: chart.views ?? {}, height: chart.height, stale: true });
    const open = old[i].querySelector("details").open;
    const table = numbers(chart);
    table.open = open;
    old[i].querySelector("details").replaceWith(table);
    old[i].querySelector("h2").textContent = chart.finding || chart.title;
    old[i].querySelector(".note").textContent = noteOf(chart);
  });
  queue();
}
