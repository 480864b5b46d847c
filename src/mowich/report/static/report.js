"use strict";
(() => {
  const options = JSON.parse(document.getElementById("options").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let drawn = [];
  const draw = () => {
    drawn.forEach((chart) => chart.dispose());
    drawn = options.map((option, place) => {
      const chart = echarts.init(document.getElementById("chart" + place), dark.matches ? "dark" : null, { renderer: "svg" });
      chart.setOption({ ...option, backgroundColor: "transparent" });
      return chart;
    });
  };
  if (options.length) {
    draw();
    dark.addEventListener("change", draw);
    window.addEventListener("resize", () => drawn.forEach((chart) => chart.resize()));
  }
})();
