// How far to trust it: predicted against measured for the published runs that ship.

import { $, h } from "./dom.js";
import { once } from "./api.js";
import { pageOf } from "./pages.js";

export async function show() {
  $("headline").textContent = "Accuracy: predicted against measured";
  $("status").replaceChildren(h("p", { class: "soft" }, "Predicting every published run …"));
  const answer = await once("/api/validate");
  $("headline").textContent = answer.view.headline;
  $("status").replaceChildren();
  pageOf($("view"), answer.view, { most: 400 });
  $("centre").setAttribute("aria-busy", "false");
}
