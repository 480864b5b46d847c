// Small tools: making elements, and numbers as the reports write them. Text is always set as text, never as HTML.

/** h("td", {class: "x", onclick: f}, "text", child, ...) */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled" || key === "open") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** The headline of a page, and in grey what stands under it. view: that of an answer, or words. */
export function head(view) {
  const { headline, under = "" } = typeof view === "string" ? { headline: view } : view;
  for (const [id, text] of Object.entries({ headline, under })) {
    // the same words are not told again to who hears them
    if ($(id).textContent !== text) $(id).textContent = text;
    $(id).classList.remove("stale");
  }
}

/** Three significant digits: 0.0123, 12.3, 7.40, 12,300, 1.23e9; a whole number below 1000 as it is. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "?";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(digits - 1).replace("e+", "e");
  if (size >= 10 ** digits) return Math.round(value).toLocaleString("en-US");
  return Number.isInteger(value) ? String(value) : value.toPrecision(digits);
}

/** 15000000000000 -> 15T */
export function count(value) {
  for (const [unit, letter] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
  ]) {
    if (value >= unit && (value / unit) % 0.001 < 1e-9) return `${Number((value / unit).toPrecision(6))}${letter}`;
  }
  return String(value);
}

export const bytes = (value) => `${number(value / 2 ** 30)} GiB`;

/** "2.1 (1.8–2.6)" of an estimate, or "?" */
export function estimate(e, scale = 1) {
  if (!e || e.value === null || e.value === undefined) return "?";
  const range =
    e.low !== null && e.high !== null && e.high > e.low
      ? ` (${number(e.low * scale)}–${number(e.high * scale)})`
      : "";
  return `${number(e.value * scale)}${range}`;
}

export function debounce(wait, act) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...args), wait);
  };
}

/** Offer text as a file. */
export function download(name, text, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}
