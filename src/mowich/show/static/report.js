"use strict";
(() => {
  const options = JSON.parse(document.getElementById("options").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = JSON.parse(document.getElementById("views").textContent);
  const chosen = options.map(() => 0);
  const drawn = [];
  const PAPER = 520; // pixels of a chart before it shrinks into its column on paper: one of two, or of three
  const PAPER_MANY = 390;
  const drawOne = (place, paper = false) => {
    const box = document.getElementById("chart" + place);
    const night = dark.matches && !paper;
    const sheet = box.closest(".many") ? PAPER_MANY : PAPER;
    const option = chosen[place] ? views[place][chosen[place] - 1] : options[place];
    const [fits, more] = fitted(option, paper ? sheet : box.clientWidth, night, paper);
    const height =
      Math.max(
        paper ? 120 : 0,
        Number(box.dataset.height) *
          (paper ? (option.yAxis?.type !== "category" ? 0.5 : box.closest(".story") ? 0.46 : 0.6) : 1),
      ) + more;
    drawn[place]?.dispose();
    box.style.height = `${height}px`;
    const chart = (drawn[place] = echarts.init(box, night ? "dark" : null, {
      renderer: "svg",
      width: paper ? sheet : box.clientWidth,
      height,
    }));
    chart.setOption(fits);
    const svg = box.querySelector("svg");
    if (svg) svg.setAttribute("viewBox", `0 0 ${chart.getWidth()} ${chart.getHeight()}`);
  };
  const draw = (paper = false) => options.forEach((_, place) => drawOne(place, paper));
  if (options.length) {
    draw();
    dark.addEventListener("change", () => draw());
    let width = document.body.clientWidth;
    new ResizeObserver(() => {
      if (document.body.clientWidth !== width) {
        width = document.body.clientWidth;
        draw();
      }
    }).observe(document.body);
  }
  document.querySelectorAll(".views").forEach((group) => {
    const place = Number(group.parentElement.querySelector(".chart").id.slice(5));
    const buttons = [...group.querySelectorAll("button")];
    buttons.forEach((button, way) =>
      button.addEventListener("click", () => {
        buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
        chosen[place] = way;
        drawOne(place);
      }),
    );
  });
  const folded = () => document.querySelectorAll("details.assumed, details.again");
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...folded()].filter((d) => !d.open);
    opened.forEach((d) => {
      d.open = true;
    });
    if (options.length) draw(true);
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((d) => {
      d.open = false;
    });
    if (options.length) draw();
  });
  const show = () => {
    const target =
      location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    const holder = target && target.closest("details");
    if (holder && !holder.open) {
      holder.open = true;
      target.scrollIntoView();
    }
  };
  window.addEventListener("hashchange", show);
  show();
  document.querySelectorAll(".copy button").forEach((button) =>
    button.addEventListener("click", async () => {
      const pre = button.parentElement.querySelector("pre");
      try {
        await navigator.clipboard.writeText(pre.textContent);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(pre);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Selected";
      }
      setTimeout(() => {
        button.textContent = "Copy";
      }, 1500);
    }),
  );
  const value = (cell) => {
    const m = cell.firstChild
      ? cell.firstChild.textContent.replace(/[,$\u202f]/g, "").match(/^[-+]?[\d.]+(e[-+]?\d+)?/i)
      : null;
    return m ? parseFloat(m[0]) : null;
  };
  document.querySelectorAll("table.sortable").forEach((table) =>
    table.querySelectorAll("thead th").forEach((th, column) =>
      th.querySelector("button").addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("thead th").forEach((o) => o.setAttribute("aria-sort", "none"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [value(a.cells[column]), value(b.cells[column])];
          const order =
            x !== null && y !== null
              ? x - y
              : x !== null
                ? -1
                : y !== null
                  ? 1
                  : a.cells[column].textContent.localeCompare(b.cells[column].textContent);
          return up ? order : x === null || y === null ? order : -order;
        });
        table.tBodies[0].append(...rows);
      }),
    ),
  );
  // columns of words are set as text, those of sentences wider
  const words = (cell) => (cell && cell.firstChild ? cell.firstChild.textContent : "");
  document.querySelectorAll("table.sortable").forEach((table) => {
    const rows = [...table.tBodies[0].rows];
    if (!rows.length) return;
    [...rows[0].cells].forEach((_, column) => {
      const longest = Math.max(...rows.map((r) => words(r.cells[column]).length));
      const isText =
        longest > 30 ||
        rows.some((r) => r.cells[column] && value(r.cells[column]) === null && words(r.cells[column]).length > 12);
      const cells = rows.map((r) => r.cells[column]).filter((c) => c && !["", "?", "-"].includes(words(c).trim()));
      if (!isText && cells.length && cells.every((c) => value(c) === null))
        table.querySelectorAll("tr").forEach((r) => r.cells[column] && r.cells[column].classList.add("words"));
      if (isText)
        table
          .querySelectorAll("tr")
          .forEach(
            (r) =>
              r.cells[column] &&
              r.cells[column].classList.add("text", ...(longest > 70 ? ["long"] : longest > 24 ? ["wide"] : [])),
          );
    });
  });
})();
