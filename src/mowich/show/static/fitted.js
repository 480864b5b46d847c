"use strict";
// A chart's option as it fits into a width: the legend in as many lines as it needs (never cut, so that paper shows all of it), small letters where it is narrow;
// black marks white on a dark page. -> [option, pixels that the chart grows by]
globalThis.fitted = (option, width, dark) => {
  const out = { ...option, backgroundColor: "transparent" };
  if (dark) out.series = option.series.map((s) => (s.itemStyle && s.itemStyle.color === "#000" ? { ...s, itemStyle: { ...s.itemStyle, color: "#fff", borderColor: "#000" } } : s));
  let more = 0;
  if (option.legend && option.grid) {
    const names = [...new Set(option.series.map((s) => s.name))];
    let [lines, used] = [1, 0];
    for (const name of names) {
      const wide = 42 + 6.4 * String(name).length;
      if (used && used + wide > width - 16) [lines, used] = [lines + 1, 0];
      used += wide;
    }
    more = 24 * (lines - 1);
    out.grid = { ...option.grid, bottom: option.grid.bottom + more };
  }
  if (width < 600) {
    const { xAxis: x, yAxis: y } = option;
    if (y) out.yAxis = y.type === "category" ? { ...y, axisLabel: { ...y.axisLabel, width: 110, overflow: "break", fontSize: 10, lineHeight: 11 } } : { ...y, nameTextStyle: { fontSize: 10 } };
    if (x) out.xAxis = { ...x, axisLabel: { ...x.axisLabel, fontSize: 10, hideOverlap: true } };
  }
  return [out, more];
};
