// Kernel timeline: what each engine does when. Every kernel that ships can be chosen; a trace from `mowich kernel
// profile --trace FILE.json` opens in the browser alone; a kernel can be sent only where the server was started
// with --kernels.

import { $, h, head, number } from "./dom.js";
import { once, post } from "./api.js";
import { pageOf } from "./pages.js";
import { figure, library, show as showCharts } from "./charts.js";
import { skeleton, waiting } from "./waiting.js";

const ROWS = 24;

/** Chrome or Perfetto trace events -> [{track, name, start, end}] in seconds, by track in order of appearance. */
export function events(trace) {
  const list = Array.isArray(trace) ? trace : (trace.traceEvents ?? []);
  const names = new Map();
  for (const e of list)
    if (e.ph === "M" && (e.name === "thread_name" || e.name === "process_name"))
      names.set(`${e.name}:${e.pid}:${e.tid ?? 0}`, e.args?.name);
  return list
    .filter((e) => e.ph === "X")
    .map((e) => ({
      track: String(names.get(`thread_name:${e.pid}:${e.tid}`) ?? e.tid),
      name: String(e.name),
      start: e.ts * 1e-6,
      end: (e.ts + (e.dur ?? 0)) * 1e-6,
    }));
}

const GREY = "#6b7280";
/** An engine has one colour in every picture of a kernel. */
const colourOf = (track) => globalThis.engineColours?.[track.toLowerCase().split(/[ _]/)[0]] ?? GREY;

function timeline(list) {
  const tracks = [...new Set(list.map((e) => e.track))].slice(0, ROWS);
  const scale = 1e6;
  const most = 6000;
  const step = Math.max(1, Math.ceil(list.length / most));
  const data = list
    .filter((e, i) => i % step === 0 && tracks.includes(e.track))
    .map((e) => ({
      name: e.name,
      value: [tracks.indexOf(e.track), e.start * scale, e.end * scale, (e.end - e.start) * scale],
      itemStyle: { color: colourOf(e.track) },
    }));
  const busy = tracks.map((t) => list.filter((e) => e.track === t).reduce((a, e) => a + e.end - e.start, 0));
  return {
    title: "Timeline",
    note:
      `${list.length.toLocaleString("en-US")} events${step > 1 ? `, every ${step}th drawn` : ""}.` +
      " Drag or scroll to zoom.",
    height: 90 + 30 * tracks.length,
    head: ["track", "events", "time in events, us"],
    rows: tracks.map((t, i) => [t, String(list.filter((e) => e.track === t).length), number(busy[i] * 1e6)]),
    option: {
      grid: { left: 8, right: 24, top: 8, bottom: 56, containLabel: true },
      tooltip: {
        confine: true,
        formatter: (p) =>
          `${p.name}\n${number(p.value[1], 5)} to ${number(p.value[2], 5)} us (${number(p.value[3])} us)`,
      },
      xAxis: { type: "value", name: "us", nameLocation: "middle", nameGap: 24, scale: true },
      yAxis: { type: "category", data: tracks, inverse: true },
      dataZoom: [{ type: "inside" }, { type: "slider", height: 16, bottom: 4 }],
      series: [
        {
          type: "custom",
          encode: { x: [1, 2], y: 0 },
          data,
          renderItem: (params, api) => {
            const [from, to] = [api.coord([api.value(1), api.value(0)]), api.coord([api.value(2), api.value(0)])];
            const tall = api.size([0, 1])[1] * 0.7;
            return {
              type: "rect",
              shape: { x: from[0], y: from[1] - tall / 2, width: Math.max(to[0] - from[0], 0.6), height: tall },
              style: api.style(),
            };
          },
        },
      ],
    },
  };
}

const FIRST = "matmul"; // of those that ship
let chosen = FIRST;

/** The kernels that ship, one chosen. */
function chooser(list) {
  const what = () => list.find((k) => k.name === chosen)?.what ?? "";
  const note = h("p", { class: "note", id: "kernel-what" }, `${what()}.`);
  const pick = h(
    "select",
    {
      id: "kernel-example",
      onchange: () => {
        chosen = pick.value;
        note.textContent = `${what()}.`;
        example();
      },
    },
    list.map(({ name }) => {
      const made = h("option", { value: name }, name);
      made.selected = name === chosen;
      return made;
    }),
  );
  return h("div", { class: "field" }, h("label", { for: "kernel-example" }, "Kernel that ships"), pick, note);
}

/** The trace of the chosen kernel, as the server made it. */
async function example() {
  const asked = chosen;
  const there = () => $("panes").dataset.tab === "kernel" && asked === chosen && $("kernel-answer");
  $("kernel-answer").classList.add("stale");
  $("wrong-example").textContent = "";
  const done = waiting("kernel", $("status"), "Running the kernel");
  try {
    const [answer] = await Promise.all([once(`/api/kernel/${asked}`), library()]);
    if (there()) draw(answer);
    done();
  } catch (error) {
    done(false);
    if (there()) $("kernel-answer").replaceChildren();
    if (there()) $("wrong-example").textContent = error.message;
  }
  if (there()) $("kernel-answer").classList.remove("stale");
}

export async function show() {
  head("Kernel timeline");
  $("status").replaceChildren();
  $("view").replaceChildren(skeleton(9));
  const [about, shipped] = await Promise.all(
    ["/api/about", "/api/kernels"].map(async (at) => (await once(at)).result),
  );
  const wrong = h("p", { class: "wrong", id: "wrong-trace" });
  const file = h("input", {
    type: "file",
    id: "trace",
    accept: ".json",
    onchange: async () => {
      try {
        const text = await file.files[0].text();
        const list = events(JSON.parse(text));
        if (!list.length) throw new Error("no events in this file");
        await library(); // has the colours
        head(`${file.files[0].name}: ${list.length.toLocaleString("en-US")} events`);
        $("kernel-answer").replaceChildren(figure(timeline(list)));
        wrong.textContent = "";
      } catch (error) {
        wrong.textContent = `not a trace: ${error.message}`;
      }
    },
  });
  const form = about.kernels
    ? sender(about)
    : h(
        "p",
        { class: "soft" },
        "Kernels are code, so this server runs none but its own. ",
        h("code", {}, "mowich web --kernels"),
        " on your own machine does; a trace of ",
        h("code", {}, "mowich kernel profile FILE.py -k NAME --trace FILE.json"),
        " opens here anyway.",
      );
  $("left").replaceChildren(
    chooser(shipped.kernels),
    h("p", { class: "wrong", id: "wrong-example" }),
    h("div", { class: "field" }, h("label", { for: "trace" }, "Open a trace"), file),
    wrong,
    form,
  );
  $("view").replaceChildren(h("div", { id: "kernel-answer" }, skeleton(9)));
  await example();
  $("centre").setAttribute("aria-busy", "false");
}

function sender(about) {
  const wrong = h("p", { class: "wrong", id: "wrong-kernel" });
  const source = h("textarea", {
    id: "kernel-source",
    rows: 16,
    spellcheck: "false",
    "aria-label": "Python file with the kernel",
  });
  once(`/api/kernel/${FIRST}`).then((a) => {
    source.value ||= a.source;
  });
  const name = h("input", { type: "text", id: "kernel-name", value: FIRST, "aria-label": "Kernel" });
  const args = h("textarea", { id: "kernel-args", rows: 2, spellcheck: "false", "aria-label": "Arguments" });
  args.value = "lhsT=bfloat16[512,256] rhs=bfloat16[512,2048]";
  const target = h(
    "select",
    { id: "kernel-target", "aria-label": "Target" },
    ["", ...about.kernel_targets].map((t) =>
      h("option", { value: t }, t || `the kernel's own, else ${about.kernel_target}`),
    ),
  );
  const go = h(
    "button",
    {
      type: "button",
      onclick: async () => {
        wrong.textContent = "";
        $("status").replaceChildren();
        source.removeAttribute("aria-invalid");
        go.disabled = true;
        $("kernel-answer").classList.add("stale");
        const done = waiting("kernel", $("status"), "Running the kernel");
        try {
          draw(
            await post("/api/kernel/profile", {
              source: source.value,
              kernel: name.value.trim(),
              arguments: args.value.trim().split(/\s+/).filter(Boolean),
              target: target.value || null,
            }),
          );
          done();
        } catch (error) {
          done(false);
          wrong.textContent = error.message;
          source.setAttribute("aria-invalid", "true");
          $("status").replaceChildren(
            h(
              "div",
              { class: "refused", role: "alert" },
              h("strong", {}, "Not computed. "),
              error.message,
              last ? " Below is the last answer." : "",
            ),
          );
        }
        $("kernel-answer").classList.remove("stale");
        go.disabled = false;
      },
    },
    "Profile",
  );
  const field = (id, label, ...what) => h("div", { class: "field" }, h("label", { for: id }, label), ...what);
  return h(
    "div",
    { class: "kernel" },
    field("kernel-source", "Or send a Python file with a kernel", source),
    field("kernel-name", "Kernel", name),
    field("kernel-args", "Arguments", args),
    field("kernel-target", "Chip", target),
    h("div", { class: "row" }, go),
    wrong,
  );
}

let last = null;
export const take = { command: () => last?.command };

/** The lines of a kernel's file; those that take most of its time are marked. */
function listing(source, view) {
  const costly = new Set(
    view.tables.flatMap((t) =>
      t.rows
        .flat()
        .map((c) => (Array.isArray(c) ? c[0] : c))
        .flatMap((c) => [...String(c).matchAll(/\w+\.py:(\d+)/g)].map((m) => Number(m[1]))),
    ),
  );
  return h(
    "div",
    { class: "source-code", tabindex: 0, role: "region", "aria-label": "Source of the kernel" },
    h(
      "ol",
      {},
      source
        .split("\n")
        .map((line, i) => h("li", { class: costly.has(i + 1) ? "costly" : null }, h("code", {}, line || " "))),
    ),
  );
}

function draw(answer) {
  const box = $("kernel-answer");
  if (!box) return;
  last = answer;
  head(answer.view);
  const page = h("div", {});
  const lanes = answer.trace ? figure(timeline(events(answer.trace)), answer.command) : null;
  const code = answer.source ?? $("kernel-source")?.value;
  const [first, rest] = [h("div", { class: "charts one" }), h("div", { class: "charts" })];
  const beside = h("div", {}, lanes ?? "", first);
  const checks = answer.file ? answer.said : []; // an example says how far it is from its reference
  box.replaceChildren(
    code
      ? h(
          "div",
          { class: "lanes" },
          h(
            "div",
            {},
            h("h2", {}, answer.file ? `Source: ${answer.file}` : "Source"),
            h("p", { class: "note" }, "Marked: lines that the tables below name."),
            checks.map((line) => h("p", { class: "note" }, `Its own check: ${line}.`)),
            listing(code, answer.view),
          ),
          beside,
        )
      : beside,
    rest,
    page,
  );
  pageOf(page, { ...answer.view, charts: [] }, { strip: false });
  const charts = answer.view.charts.filter((c) => !lanes || c.title !== "Who is at work when"); // the timeline has it
  showCharts(first, charts.slice(0, 1), answer.command); // beside the source, which is as tall
  showCharts(rest, charts.slice(1), answer.command);
}
