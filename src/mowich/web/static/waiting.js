// While an answer is on its way: the skeleton of what will come, and after half a second the seconds that are
// left, by how long the last one took.

import { h } from "./dom.js";

const took = new Map(
  Object.entries({
    train: 1,
    serve: 1,
    forward: 2,
    gap: 6,
    value: 3,
    prices: 1,
    claims: 4,
    brief: 25,
    fleet: 5,
    rl: 4,
    accuracy: 8,
    kernel: 5,
    facts: 1,
    deepen: 2,
    load: 20,
    explain: 2,
  }),
);

/** Grey lines where text will stand. */
export const skeleton = (lines = 6) =>
  h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, () => h("div", {})),
  );

/** Say in `place` how long it takes; the answer is a function that ends it. kind: of question, whose last time is
 * known. */
export function waiting(kind, place, what = "Computing") {
  const begin = performance.now();
  let shown = null;
  const tell = () => {
    const left = Math.ceil((took.get(kind) ?? 2) - (performance.now() - begin) / 1000);
    shown ??= h("p", { class: "soft wait" });
    shown.textContent =
      left > 0
        ? `${what}: about ${left} s left.`
        : `${what}: longer than the last time, which took ${Math.ceil(took.get(kind) ?? 2)} s.`;
    if (!shown.isConnected) place.prepend(shown);
  };
  const first = setTimeout(tell, 500);
  const each = setInterval(() => shown && tell(), 1000);
  return (good = true) => {
    clearTimeout(first);
    clearInterval(each);
    shown?.remove();
    if (good) took.set(kind, (performance.now() - begin) / 1000);
  };
}
