// How far to trust it: predicted against measured, errors of rows that were left out of the fit first.

import { $, h, head } from "./dom.js";
import { once } from "./api.js";
import { pageOf } from "./pages.js";
import { skeleton, waiting } from "./waiting.js";

export async function show() {
  head("Accuracy: predicted against measured");
  $("left").replaceChildren(
    h(
      "div",
      { class: "about-left" },
      h(
        "p",
        {},
        "Left out of the fit: rows that the constants had not seen. This is what a prediction of a new " +
          "run may be off by.",
      ),
      h(
        "p",
        { class: "soft" },
        "In sample: constants and ranges were fitted to these rows; a new run is off by more.",
      ),
      h(
        "p",
        { class: "soft" },
        "An error is the larger of predicted over measured and measured over predicted, less 1.",
      ),
    ),
  );
  $("view").replaceChildren(skeleton(9));
  const done = waiting("accuracy", $("status"), "Predicting every published run");
  const answer = await once("/api/validate").finally(() => done());
  if (!$("view") || $("panes").dataset.tab !== "accuracy") return;
  head(answer.view);
  $("footing").textContent = `facts ${answer.result.facts_hash ?? ""}`;
  pageOf($("view"), answer.view, { most: 400, strip: false, made: "mowich validate" });
  $("centre").setAttribute("aria-busy", "false");
}
