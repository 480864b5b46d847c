"use strict";
// A chart's option as it fits into a width: the legend in as many lines as it needs (never cut, so that paper
// shows all of it), small letters where it is narrow; (on paper smaller); on a dark page each colour in its dark
// form (`darkColours`). On a phone large numbers of an axis are 10k and 1M, and a map of numbers has whole ones
// in small letters. -> [option, pixels that the chart grows by]
const inDark = (x) =>
  typeof x === "string"
    ? (globalThis.darkColours?.[x] ?? x)
    : Array.isArray(x)
      ? x.map(inDark)
      : x && typeof x === "object"
        ? Object.fromEntries(Object.entries(x).map(([k, v]) => [k, inDark(v)]))
        : x;
const few = (v) => {
  // 1,000,000 -> 1M
  for (const [unit, letter] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ])
    if (Math.abs(v) >= unit) return `${Number((v / unit).toPrecision(3))}${letter}`;
  return String(v);
};
globalThis.fitted = (option, width, dark, paper = false) => {
  const out = { ...(dark ? inDark(option) : option), backgroundColor: "transparent" };
  let more = 0;
  if (option.legend && option.legend.show !== false && option.grid) {
    const names = (option.legend.data ?? [...new Set(option.series.map((s) => s.name))]).map((n) => n.name ?? n);
    let [lines, used] = [1, 0];
    for (const name of names) {
      const wide = paper ? 32 + 5.4 * String(name).length : 42 + 6.4 * String(name).length;
      if (used && used + wide > width - 16) [lines, used] = [lines + 1, 0];
      used += wide;
    }
    more = (paper ? 16 : 24) * (lines - 1);
    out.grid = { ...option.grid, bottom: option.grid.bottom + more - (paper ? 16 : 0) };
    if (paper)
      out.legend = { ...option.legend, itemWidth: 16, itemHeight: 9, itemGap: 8, textStyle: { fontSize: 10 } };
  }
  const { xAxis: x, yAxis: y } = out;
  const small = width < 600;
  const large = (axis) =>
    ["value", "log"].includes(axis?.type) && !axis.axisLabel?.formatter ? { formatter: few } : {};
  if (y && y.type === "category")
    out.yAxis = {
      ...y,
      axisLabel: {
        ...y.axisLabel,
        width: Math.round(Math.min((paper ? 0.5 : 0.4) * width, 300)),
        overflow: "break",
        ...(paper ? { interval: 0 } : {}),
        fontSize: paper ? 9 : small ? 10 : 11,
        lineHeight: paper ? 9 : small ? 11 : 12,
      },
    };
  else if (y && small)
    out.yAxis = {
      ...y,
      nameGap: Math.min(y.nameGap ?? 15, 46),
      nameTextStyle: { fontSize: 10 },
      axisLabel: { ...y.axisLabel, ...large(y) },
    };
  if (x && small) out.xAxis = { ...x, axisLabel: { ...x.axisLabel, ...large(x), fontSize: 10, hideOverlap: true } };
  if (small && out.series?.some((s) => s.type === "heatmap")) {
    const rounded = (p) => String(Math.round(p.value[2]));
    out.series = out.series.map((s) =>
      s.type === "heatmap" && s.label?.show ? { ...s, label: { ...s.label, fontSize: 9, formatter: rounded } } : s,
    );
  }
  return [out, more];
};
