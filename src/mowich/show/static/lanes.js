"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const N = D.begin.length,
  LABEL = 118,
  TOP = 22;
const $ = (id) => document.getElementById(id);
const canvas = $("timeline"),
  pen = canvas.getContext("2d");
let left = D.from,
  right = D.to,
  chosen = -1,
  line = -1,
  hover = -1,
  colors = {},
  rows = [],
  frame = 0;

// ---- times and words
function time(ps) {
  const s = Math.abs(ps);
  if (s >= 1e9) return (ps / 1e9).toFixed(3) + " ms";
  if (s >= 1e6) return (ps / 1e6).toFixed(3) + " us";
  return (ps / 1e3).toFixed(s < 1e4 ? 1 : 0) + " ns";
}
function opcode(i) {
  return D.kinds[D.kind[i]].opcode;
}
function place(i) {
  const p = D.place[i];
  return p < 0 ? "added by the compiler" : D.sources[D.places[p][0]].name + ":" + D.places[p][1];
}
function named(i) {
  return "#" + D.id[i] + " " + opcode(i) + " (" + place(i) + ")";
}
const WHY = {
  "done reading": "had to wait until this one had read its input",
  result: "needs the result of",
  buffer: "takes memory that was in use by",
  weights: "its stationary tile comes from",
  engine: "its engine was busy with",
  "DMA issuer": "the issuer of DMAs was busy with",
  "DMA engines": "its bytes queued on the DMA engines behind",
  HBM: "its bytes queued at HBM behind",
  port: "a port of the memory was held by",
};

// ---- tables for drawing
const order = D.lanes.map(() => []);
for (let i = 0; i < N; i++) order[D.lane[i]].push(i);
for (const list of order) list.sort((a, b) => D.begin[a] - D.begin[b] || a - b);
const longest = order.map((list) => list.reduce((m, i) => Math.max(m, D.end[i] - D.begin[i]), 0));
const before = new Int32Array(N).fill(-1);
for (const list of order) for (let k = 1; k < list.length; k++) before[list[k]] = list[k - 1];
const slices = new Map();
D.lanes.forEach((lane, at) => {
  if (lane.kind === "dma") slices.set(lane.core * 64 + lane.number, { at, list: [] });
});
for (const [i, begins, times] of D.dma) {
  begins.forEach((b, e) => {
    if (b >= 0) slices.get(D.lanes[D.lane[i]].core * 64 + e).list.push([i, b, b + times[e]]);
  });
}
const followers = Array.from({ length: N }, () => []);
for (let i = 0; i < N; i++)
  for (let k = D.edgeFirst[i]; k < D.edgeFirst[i + 1]; k++) if (D.edges[k] >= 0) followers[D.edges[k] >> 2].push(i);
const sliceOf = new Map();
for (const { at, list } of slices.values()) {
  list.sort((a, b) => a[1] - b[1]);
  sliceOf.set(at, list);
}

function layout() {
  rows = [];
  let y = TOP;
  D.lanes.forEach((lane, at) => {
    if (lane.kind === "dma" && !$("dmas").checked) return;
    const height = lane.kind === "dma" ? 9 : 22;
    if (lane.kind === "engine" && rows.length && rows[rows.length - 1].lane.core !== lane.core) y += 6;
    rows.push({ lane, at, y, height });
    y += height + (lane.kind === "dma" ? 1 : 3);
  });
  const ratio = window.devicePixelRatio || 1,
    width = canvas.clientWidth;
  canvas.style.height = y + 8 + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round((y + 8) * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
}
function theme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [
    "ink",
    "soft",
    "line",
    "card",
    "pick",
    "wait",
    "flight",
    "tensor",
    "vector",
    "scalar",
    "gpsimd",
    "sync",
    "ring",
    "dma",
    "collective",
    "path",
    "result",
    "buffer",
    "read",
    "weights",
    "text",
  ])
    colors[name] = style.getPropertyValue("--" + name).trim();
}
const width = () => canvas.clientWidth - LABEL - 8;
const x = (t) => LABEL + ((t - left) / (right - left)) * width();
const at = (px) => left + ((px - LABEL) / width()) * (right - left);
function firstAfter(list, t, of) {
  let a = 0,
    b = list.length;
  while (a < b) {
    const m = (a + b) >> 1;
    if (of(list[m]) < t) a = m + 1;
    else b = m;
  }
  return a;
}
function marked(i) {
  return i === chosen || (line >= 0 && D.place[i] === line);
}

function box(x0, x1, y, h, fill) {
  pen.fillStyle = fill;
  pen.fillRect(x0, y, Math.max(x1 - x0, 0.6), h);
}
function frameOf(x0, x1, y, h) {
  pen.strokeStyle = colors.ink;
  pen.lineWidth = 1.2;
  pen.strokeRect(x0, y, Math.max(x1 - x0, 1.5), h);
}
function words(text, x0, x1, y, ink) {
  const room = x1 - x0 - 6;
  if (room < 26) return;
  pen.save();
  pen.beginPath();
  pen.rect(x0, y - 12, x1 - x0 - 2, 18);
  pen.clip();
  pen.fillStyle = ink || colors.text;
  pen.fillText(text, x0 + 3, y);
  pen.restore();
}
function draw() {
  frame = 0;
  const w = canvas.clientWidth,
    h = canvas.clientHeight,
    edge = LABEL + width();
  pen.clearRect(0, 0, w, h);
  pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  pen.textBaseline = "alphabetic";
  ticks(h);
  for (const row of rows) {
    const { lane, y, height } = row,
      list = order[row.at];
    pen.fillStyle = colors.soft;
    pen.font = (lane.kind === "dma" ? "8.5px" : "11px") + " system-ui, 'DejaVu Sans', sans-serif";
    pen.fillText(lane.name, 6, y + (lane.kind === "dma" ? 8 : 15), LABEL - 10);
    pen.fillStyle = colors.line;
    pen.fillRect(LABEL, y + height, width(), 0.5);
    pen.save();
    pen.beginPath();
    pen.rect(LABEL, y - 2, width(), height + 4);
    pen.clip();
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    if (lane.kind === "path") {
      let done = -1;
      for (const [i, a, b, made] of D.path)
        if (b > left && a < right) {
          const x0 = x(a),
            x1 = x(b);
          if (x1 < done + 0.4) continue;
          done = x1;
          box(x0, x1, y + 2, height - 4, i >= 0 && marked(i) ? colors.pick : colors.path);
          if (x1 - x0 > 2) box(x1 - 0.6, x1, y + 2, height - 4, colors.card);
          words((i >= 0 ? opcode(i) + ": " : "") + made, x0, x1, y + 15, i >= 0 && marked(i) ? "#1b1f23" : "");
        }
    } else if (lane.kind === "dma") {
      const mine = sliceOf.get(row.at);
      let done = -1;
      for (let k = 0; k < mine.length && mine[k][1] < right; k++)
        if (mine[k][2] > left) {
          const x0 = x(mine[k][1]),
            x1 = x(mine[k][2]),
            on = marked(mine[k][0]);
          if (x1 < done + 0.4 && !on) continue;
          done = x1;
          box(x0, x1, y, height, on ? colors.pick : colors.dma);
          if (x1 - x0 > 2) box(x1 - 0.5, x1, y, height, colors.card);
        }
    } else {
      let done = -1;
      for (
        let k = firstAfter(list, left - longest[row.at], (i) => D.begin[i]);
        k < list.length && D.begin[list[k]] < right;
        k++
      ) {
        const i = list[k];
        if (D.end[i] < left) continue;
        instruction(i, lane, y, height, done);
        done = Math.max(done, x(D.end[i]));
      }
    }
    pen.restore();
  }
  if (chosen >= 0 && $("arrows").checked) arrows(edge);
  $("span").textContent = time(left) + " to " + time(right) + " (" + time(right - left) + ")";
}
function instruction(i, lane, y, height, done) {
  const kind = D.kinds[D.kind[i]],
    x0 = x(D.begin[i]),
    x1 = x(D.end[i]),
    on = marked(i);
  const color = on ? colors.pick : lane.kind === "ring" ? colors.ring : colors[lane.engine] || colors.sync;
  const free =
    before[i] >= 0 ? (kind.dma ? D.begin[before[i]] + D.kinds[D.kind[before[i]]].issue : D.end[before[i]]) : D.from;
  if (D.by[i] !== -1 && D.begin[i] > free) {
    const w0 = x(free);
    if (x0 - w0 > 1) box(w0, x0, y + height - 5, 3, colors.wait);
  }
  if (kind.dma) {
    const issued = x(D.begin[i] + kind.issue);
    box(issued, x1, y + height - 7, 4, on ? colors.pick : colors.flight);
    box(x0, issued, y + 2, height - 9, color);
    words(opcode(i), x0, issued, y + 13, on ? "#1b1f23" : "");
    if (on) frameOf(x0, issued, y + 2, height - 9);
    return;
  }
  if (x1 < done + 0.3 && !on) return;
  if (D.loading[i] > 0 && D.data[i] > D.begin[i]) {
    pen.globalAlpha = 0.4;
    box(x0, x(D.data[i]), y + 2, height - 4, color);
    pen.globalAlpha = 1;
    box(x(D.data[i]), x1, y + 2, height - 4, color);
  } else box(x0, x1, y + 2, height - 4, color);
  if (x1 - x0 > 3) box(x1 - 0.6, x1, y + 2, height - 4, colors.card);
  words(opcode(i), x0, x1, y + 15, on ? "#1b1f23" : "");
  if (on) frameOf(x0, x1, y + 2, height - 4);
}
function ticks(h) {
  const rough = ((right - left) / width()) * 110,
    unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough);
  pen.fillStyle = colors.soft;
  for (let t = Math.ceil(left / step) * step; t <= right; t += step) {
    const px = x(t);
    pen.fillStyle = colors.line;
    pen.fillRect(px, TOP - 6, 0.5, h);
    const label = tick(t, step);
    if (px + 6 + pen.measureText(label).width < LABEL + width()) {
      pen.fillStyle = colors.soft;
      pen.fillText(label, px + 3, 13);
    }
  }
}
function tick(t, step) {
  const [u, n] = step >= 1e8 ? [1e9, "ms"] : step >= 1e5 ? [1e6, "us"] : [1e3, "ns"];
  return +(t / u).toFixed(Math.max(0, Math.ceil(-Math.log10(step / u)))) + " " + n;
}
function middle(i) {
  const row = rows.find((r) => r.at === D.lane[i]);
  return row ? row.y + 11 : -1;
}
function arrow(from, to, color, wide) {
  const x0 = Math.max(x(D.end[from]), LABEL),
    x1 = Math.max(x(D.begin[to]), LABEL),
    y0 = middle(from),
    y1 = middle(to);
  if (y0 < 0 || y1 < 0) return;
  const bend = Math.max(18, Math.abs(x1 - x0) / 3);
  const curve = () => {
    pen.beginPath();
    pen.moveTo(x0, y0);
    if (y0 === y1) pen.quadraticCurveTo((x0 + x1) / 2, y0 - 26, x1, y1);
    else pen.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
    pen.stroke();
  };
  pen.strokeStyle = colors.card;
  pen.lineWidth = wide ? 6 : 4;
  curve(); // a rim, so that it is seen on bars of its colour
  pen.strokeStyle = pen.fillStyle = color;
  pen.lineWidth = wide ? 2.6 : 1.3;
  curve();
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - 7, y1 - 3.5);
  pen.lineTo(x1 - 7, y1 + 3.5);
  pen.fill();
}
function kindColor(k) {
  return (
    colors[{ "done reading": "read", result: "result", buffer: "buffer", weights: "weights" }[D.edgeKinds[k]]] ||
    colors.soft
  );
}
function arrows(edge) {
  pen.save();
  pen.beginPath();
  pen.rect(LABEL, 0, edge - LABEL, canvas.clientHeight);
  pen.clip();
  const seen = new Set();
  for (let k = D.edgeFirst[chosen]; k < D.edgeFirst[chosen + 1]; k++)
    if (D.edges[k] >= 0) {
      const from = D.edges[k] >> 2;
      seen.add(from);
      arrow(from, chosen, kindColor(D.edges[k] & 3), from === D.by[chosen]);
    }
  if (D.by[chosen] >= 0 && !seen.has(D.by[chosen])) arrow(D.by[chosen], chosen, colors.soft, true);
  pen.globalAlpha = 0.45;
  for (const i of followers[chosen].slice(0, 40)) arrow(chosen, i, colors.soft, D.by[i] === chosen);
  pen.restore();
}

// ---- what was chosen, in words
function node(tag, text, parent, cls) {
  const n = document.createElement(tag);
  if (text !== undefined) n.textContent = text;
  if (cls) n.className = cls;
  if (parent) parent.append(n);
  return n;
}
function link(i, parent) {
  const b = node("button", named(i), parent);
  b.type = "button";
  b.addEventListener("click", () => select(i, true));
  return b;
}
function why(i, cause, by, parent, word) {
  const p = node("p", undefined, parent),
    name = D.causes[cause];
  node("b", word + " ", p);
  if (by === -1) {
    p.append("nothing: it could begin at once");
    return;
  }
  p.append((WHY[name] || name) + " ");
  if (by === -2) p.append("an instruction before this window");
  else {
    link(by, p);
    p.append(", which ends at " + time(D.end[by]));
  }
}
function detail() {
  const out = $("detail");
  out.replaceChildren();
  if (chosen < 0) {
    node("p", line >= 0 ? lineWords() : "Click an instruction, or a line of the source.", out, "note");
    return;
  }
  const i = chosen,
    kind = D.kinds[D.kind[i]];
  node("h3", named(i) + " on " + D.lanes[D.lane[i]].name, out);
  const columns = node("div", undefined, out, "columns"),
    one = node("div", undefined, columns),
    two = node("div", undefined, columns),
    three = node("div", undefined, columns);
  node(
    "p",
    time(D.begin[i]) +
      " to " +
      time(D.end[i]) +
      ": " +
      time(D.end[i] - D.begin[i]) +
      (kind.dma ? "; first byte at " + time(D.data[i]) : ""),
    one,
  );
  node(
    "p",
    [
      kind.dtype,
      kind.bytes
        ? kind.bytes.toLocaleString("en") +
          " B in " +
          kind.descriptors.toLocaleString("en") +
          " descriptors of " +
          kind.descriptor.toLocaleString("en") +
          " B"
        : "",
      kind.flop ? kind.flop.toLocaleString("en") + " FLOP" : "",
    ]
      .filter(Boolean)
      .join(", "),
    one,
  );
  node(
    "p",
    "made of " +
      (Object.entries(kind.parts)
        .filter(([, ps]) => ps)
        .map(([n, ps]) => n + " " + time(ps))
        .join(", ") || "nothing"),
    one,
    "note",
  );
  why(i, D.cause[i], D.by[i], two, "Began when it did:");
  if (D.cause[i] < 4 && D.by[i] >= 0) {
    const gap = D.begin[i] - D.end[D.by[i]],
      crosses = D.lane[i] !== D.lane[D.by[i]];
    if (gap > 0)
      node(
        "p",
        time(gap) +
          " from that end to this begin" +
          (crosses && !D.kinds[D.kind[D.by[i]]].dma
            ? ", " + time(kind.dma ? D.trigger : D.semaphore) + " of it the semaphore between engines"
            : "") +
          ".",
        two,
        "note",
      );
  }
  if (D.dataCause[i] && D.dataBy[i] !== -1) why(i, D.dataCause[i], D.dataBy[i], two, "Its bytes:");
  const count = D.edgeFirst[i + 1] - D.edgeFirst[i];
  node("p", "waits for " + count + ", and " + followers[i].length + " wait for it", three);
  const list = node("ul", undefined, three);
  const shown = [];
  for (let k = D.edgeFirst[i]; k < D.edgeFirst[i + 1]; k++) shown.push(D.edges[k]);
  shown.sort((a, b) => (b >= 0 ? D.end[b >> 2] : -1) - (a >= 0 ? D.end[a >> 2] : -1));
  for (const e of shown.slice(0, 6)) {
    const item = node("li", undefined, list);
    if (e < 0) {
      item.append("one before this window");
      continue;
    }
    item.append(D.edgeKinds[e & 3] + ": ");
    link(e >> 2, item);
    item.append(", " + time(D.begin[i] - D.end[e >> 2]) + " before");
  }
  for (const f of followers[i].slice(0, 3)) {
    const item = node("li", "followed by ", list);
    link(f, item);
  }
}
function lineWords() {
  let count = 0,
    first = Infinity,
    last = 0,
    busy = 0;
  for (let i = 0; i < N; i++)
    if (D.place[i] === line) {
      count++;
      first = Math.min(first, D.begin[i]);
      last = Math.max(last, D.end[i]);
      busy += D.end[i] - D.begin[i];
    }
  const [f, n] = D.places[line],
    entry = D.sources[f].time.find((t) => t[0] === n) || [0, 0, 0];
  return (
    D.sources[f].name +
    ":" +
    n +
    ": " +
    count +
    " instructions, " +
    time(busy) +
    " in all, from " +
    time(first) +
    " to " +
    time(last) +
    "; " +
    time(entry[2]) +
    " of the critical path (" +
    ((100 * entry[2]) / D.total).toFixed(1) +
    "%)"
  );
}

// ---- source
function showFile(f) {
  const code = $("code"),
    source = D.sources[f];
  $("file").value = f;
  code.replaceChildren();
  if (!source) return;
  const heat = new Map(source.time.map((t) => [t[0], t])),
    most = source.time.reduce((m, t) => Math.max(m, t[2], 1), 1),
    busiest = source.time.reduce((m, t) => Math.max(m, t[1], 1), 1);
  let last = 0;
  for (const [n, text] of source.lines) {
    if (n !== last + 1 && last) node("div", "   ...", code, "row note");
    last = n;
    const row = node("div", undefined, code, "row"),
      t = heat.get(n);
    row.dataset.line = n;
    node("span", n, row, "num");
    const bar = node("span", undefined, row, "heat");
    if (t) {
      const busy = node("i", undefined, bar, "busy"),
        path = node("i", undefined, bar, "path");
      busy.style.width = (50 * t[1]) / busiest + "px";
      path.style.width = (50 * t[2]) / most + "px";
      row.title = time(t[2]) + " of the critical path, " + time(t[1]) + " of instructions";
      row.classList.add("hot");
      row.addEventListener("click", () => selectLine(f, n));
    }
    node("span", text, row, "say");
  }
  paintLine();
}
function paintLine(scroll) {
  for (const row of document.querySelectorAll("#code .on")) row.classList.remove("on");
  const p = chosen >= 0 ? D.place[chosen] : line;
  if (p < 0 || p === undefined) return;
  const [f, n] = D.places[p];
  if (+$("file").value !== f) {
    showFile(f);
  }
  const row = document.querySelector('#code .row[data-line="' + n + '"]');
  if (row) {
    row.classList.add("on");
    if (scroll) {
      const code = $("code");
      code.scrollTop = row.offsetTop - code.offsetTop - code.clientHeight / 2;
    }
  }
}
function selectLine(f, n) {
  line = D.places.findIndex((p) => p[0] === f && p[1] === n);
  chosen = -1;
  paintLine();
  detail();
  redraw();
}
function select(i, show) {
  chosen = i;
  line = -1;
  if (show && i >= 0 && (D.begin[i] > right || D.end[i] < left)) {
    const half = (right - left) / 2,
      m = (D.begin[i] + D.end[i]) / 2;
    move(m - half, m + half);
  }
  paintLine(true);
  detail();
  redraw();
}

// ---- moving about
function redraw() {
  if (!frame) frame = requestAnimationFrame(draw);
}
function move(a, b) {
  const least = 2000,
    whole = D.to - D.from;
  if (b - a < least) {
    const m = (a + b) / 2;
    a = m - least / 2;
    b = m + least / 2;
  }
  if (b - a >= whole) {
    a = D.from;
    b = D.to;
  }
  if (a < D.from) {
    b += D.from - a;
    a = D.from;
  }
  if (b > D.to) {
    a -= b - D.to;
    b = D.to;
  }
  left = a;
  right = b;
  redraw();
}
function zoom(factor, around) {
  const m = around === undefined ? (left + right) / 2 : around;
  move(m - (m - left) * factor, m + (right - m) * factor);
}
function hit(px, py) {
  const row = rows.find((r) => py >= r.y - 1 && py <= r.y + r.height + 1),
    t = at(px),
    slack = (3 / width()) * (right - left);
  if (!row || px < LABEL) return -1;
  if (row.lane.kind === "path") {
    const s = D.path.find((p) => p[1] <= t && p[2] >= t);
    return s ? s[0] : -1;
  }
  if (row.lane.kind === "dma") {
    const s = sliceOf.get(row.at).find((p) => p[1] - slack <= t && p[2] + slack >= t);
    return s ? s[0] : -1;
  }
  let best = -1,
    far = Infinity;
  const list = order[row.at];
  for (
    let k = firstAfter(list, t - longest[row.at] - slack, (i) => D.begin[i]);
    k < list.length && D.begin[list[k]] <= t + slack;
    k++
  ) {
    const i = list[k],
      kind = D.kinds[D.kind[i]];
    const stop = kind.dma && py < row.y + row.height - 7 ? D.begin[i] + kind.issue : D.end[i];
    const d = t < D.begin[i] ? D.begin[i] - t : t > stop ? t - stop : 0;
    if (d <= slack && d <= far) {
      best = i;
      far = d;
    }
  }
  return best;
}
let held = null;
canvas.addEventListener("pointerdown", (e) => {
  held = { px: e.offsetX, left, right, moved: false };
  canvas.setPointerCapture(e.pointerId);
});
canvas.addEventListener("pointermove", (e) => {
  if (held) {
    const d = ((e.offsetX - held.px) / width()) * (held.right - held.left);
    if (Math.abs(e.offsetX - held.px) > 3) held.moved = true;
    if (held.moved) move(held.left - d, held.right - d);
    return;
  }
  const i = hit(e.offsetX, e.offsetY);
  if (i !== hover) {
    hover = i;
    canvas.title =
      i < 0
        ? ""
        : named(i) +
          "\n" +
          time(D.begin[i]) +
          " to " +
          time(D.end[i]) +
          " (" +
          time(D.end[i] - D.begin[i]) +
          ")\n" +
          (D.by[i] >= 0
            ? (WHY[D.causes[D.cause[i]]] || D.causes[D.cause[i]]) + " " + named(D.by[i])
            : "waited for nothing");
  }
});
canvas.addEventListener("pointerup", (e) => {
  if (held && !held.moved) select(hit(e.offsetX, e.offsetY));
  held = null;
});
canvas.addEventListener(
  "wheel",
  (e) => {
    e.preventDefault();
    if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
      const d = (e.deltaX / width()) * (right - left);
      move(left + d, right + d);
    } else zoom(Math.exp(e.deltaY * 0.0015), at(e.offsetX));
  },
  { passive: false },
);
canvas.addEventListener("keydown", (e) => {
  const step = (right - left) / 5,
    does = {
      ArrowLeft: () => move(left - step, right - step),
      ArrowRight: () => move(left + step, right + step),
      "+": () => zoom(0.6),
      "=": () => zoom(0.6),
      "-": () => zoom(1.6),
      0: () => move(D.from, D.to),
      Escape: () => select(-1),
    }[e.key];
  if (does) {
    e.preventDefault();
    does();
  }
});
$("in").addEventListener("click", () => zoom(0.5));
$("out").addEventListener("click", () => zoom(2));
$("all").addEventListener("click", () => move(D.from, D.to));
$("dmas").addEventListener("change", () => {
  layout();
  redraw();
});
$("arrows").addEventListener("change", redraw);
$("file").addEventListener("change", () => showFile(+$("file").value));
D.sources.forEach((s, f) => {
  const o = node("option", s.name, $("file"));
  o.value = f;
  o.title = s.file;
});
for (const b of document.querySelectorAll("#top button"))
  b.addEventListener("click", () => {
    const f = D.sources.findIndex((s) => s.file === b.dataset.file);
    if (f >= 0) {
      selectLine(f, +b.dataset.line);
      paintLine(true);
      $("work").scrollIntoView({ block: "start" });
    }
  });
window.addEventListener("resize", () => {
  layout();
  redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  theme();
  redraw();
});
theme();
layout();
const hottest = D.sources.map((s) => s.time.reduce((m, t) => m + t[2], 0));
showFile(Math.max(0, hottest.indexOf(Math.max(...hottest, 0))));
const heat = document.querySelectorAll("#code .hot");
if (heat.length) {
  const code = $("code");
  code.scrollTop = heat[0].offsetTop - code.offsetTop - 60;
}
draw();
function linked() {
  // FILE.html#i30 opens on instruction 30
  const m = /^#i(\d+)$/.exec(location.hash),
    i = m ? D.id.indexOf(+m[1]) : -1;
  if (i < 0) return;
  const half = 20 * Math.max(D.end[i] - D.begin[i], 50000),
    mid = (D.begin[i] + D.end[i]) / 2;
  move(mid - half, mid + half);
  select(i, true);
}
window.addEventListener("hashchange", linked);
linked();
document.documentElement.dataset.drawn = rows.length;
