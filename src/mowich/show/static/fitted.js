"use strict";
// A chart's option as it fits into a width: the legend in as many lines as it needs (never cut, so that paper shows all of it), small letters where it is narrow;
// (on paper smaller); on a dark page each colour in its dark form (`darkColours`). -> [option, pixels that the chart grows by]
const inDark = (x) => (typeof x === "string" ? globalThis.darkColours?.[x] ?? x : Array.isArray(x) ? x.map(inDark) : x && typeof x === "object" ? Object.fromEntries(Object.entries(x).map(([k, v]) => [k, inDark(v)])) : x);
globalThis.fitted = (option, width, dark, paper = false) => {
  const out = { ...(dark ? inDark(option) : option), backgroundColor: "transparent" };
  let more = 0;
  if (option.legend && option.grid) {
    const names = option.legend.data ?? [...new Set(option.series.map((s) => s.name))];
    let [lines, used] = [1, 0];
    for (const name of names) {
      const wide = paper ? 32 + 5.4 * String(name).length : 42 + 6.4 * String(name).length;
      if (used && used + wide > width - 16) [lines, used] = [lines + 1, 0];
      used += wide;
    }
    more = (paper ? 16 : 24) * (lines - 1);
    out.grid = { ...option.grid, bottom: option.grid.bottom + more - (paper ? 16 : 0) };
    if (paper) out.legend = { ...option.legend, itemWidth: 16, itemHeight: 9, itemGap: 8, textStyle: { fontSize: 10 } };
  }
  const { xAxis: x, yAxis: y } = out;
  const small = width < 600;
  if (y && y.type === "category") out.yAxis = { ...y, axisLabel: { ...y.axisLabel, width: Math.round(Math.min((paper ? 0.5 : 0.4) * width, 300)), overflow: "break", fontSize: paper ? 9 : small ? 10 : 11, lineHeight: paper ? 9 : small ? 11 : 12 } };
  else if (y && small) out.yAxis = { ...y, nameTextStyle: { fontSize: 10 } };
  if (x && small) out.xAxis = { ...x, axisLabel: { ...x.axisLabel, fontSize: 10, hideOverlap: true } };
  return [out, more];
};
