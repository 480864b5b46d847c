// Vendors, and the meaning of a head of a table, which the server's glossary tells.

import { h } from "./dom.js";
import { once } from "./api.js";

const known = new Map([
  [
    "confidence",
    "What the time rests on: constants from measurements, simulated kernels, or formulas and estimates; " +
      "and its grade, from A, a document of the vendor, to D, an estimate.",
  ],
]);

/** Fetch the glossary once; heads that are drawn already get their meaning. */
export async function learn() {
  try {
    for (const [head, means] of Object.entries((await once("/api/glossary")).result.means)) known.set(head, means);
  } catch {
    return; // the answers do not need it
  }
  document.querySelectorAll("[data-word]").forEach((e) => tell(e, e.dataset.word));
}

/** A head, without its unit, and without all that follows a comma. */
const writings = (word) => [word, word.slice(0, Math.max(word.lastIndexOf(", "), 0)), word.split(", ")[0]];
/** The meaning of words that differ from answer to answer: `*` of the glossary stands for them. */
const alike = (word) =>
  [...known].find(
    ([head]) =>
      head.includes("*") &&
      new RegExp(
        `^${head
          .split("*")
          .map((part) => part.replace(/[^\w ]/g, "\\$&"))
          .join(".*")}$`,
      ).test(word),
  )?.[1];

function tell(element, word) {
  const as = writings(word).filter(Boolean);
  const means = as.map((w) => known.get(w)).find(Boolean) ?? as.map(alike).find(Boolean);
  if (means) element.title = means;
}

/** An element whose tooltip is the meaning of a word. */
export function told(name, attributes, word, ...children) {
  const made = h(name, { ...attributes, "data-word": word }, ...children);
  tell(made, word);
  return made;
}

const VENDORS = { aws: "aws", amazon: "aws", google: "google", nvidia: "nvidia", amd: "amd" };

/** The class of a vendor by its name. */
export const vendor = (name) => VENDORS[String(name).toLowerCase().split(" ")[0]] ?? "other";

/** The mark of a system: the shape of its vendor, the shade of its chip; colours.css has both. */
export function mark(id) {
  return h("span", { class: `mark chip-${id}`, "aria-hidden": "true" });
}
