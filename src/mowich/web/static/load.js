// Serve: how many chips of the chosen system carry a load. It is played out request by request, so it takes
// seconds and is asked on a click.

import { $, h } from "./dom.js";
import { post } from "./api.js";
import { ask, state } from "./state.js";
import { pageOf } from "./pages.js";
import { shown } from "./results.js";
import { skeleton, waiting } from "./waiting.js";

const FIELDS = [
  ["rate", "Requests", "20rps"],
  ["p99_ttft", "99 of 100 see their first token within", "5s"],
  ["p99_tpot", "99 of 100 wait per token at most", "100ms"],
];

/** The fields and the button. */
export function loadField() {
  const inputs = FIELDS.map(([key, label]) => [
    key,
    label,
    h("input", {
      type: "text",
      id: `load-${key}`,
      value: state[key],
      autocomplete: "off",
      spellcheck: "false",
      onchange: (e) => {
        state[key] = e.target.value.trim();
        document.dispatchEvent(new Event("kept"));
      },
    }),
  ]);
  const wrong = h("p", { class: "wrong", id: "wrong-load" });
  const go = h(
    "button",
    { type: "button", class: "small", id: "load-find", onclick: () => find(go, wrong) },
    "Find the smallest",
  );
  return [
    h(
      "p",
      { class: "note" },
      "For the system that is chosen in the table. It plays out requests, which takes some seconds.",
    ),
    ...inputs.map(([key, label, input]) =>
      h("div", { class: "field" }, h("label", { for: `load-${key}` }, label), input),
    ),
    wrong,
    h("div", { class: "row" }, go),
  ];
}

async function find(go, wrong) {
  const row = shown.answer?.result.rows[shown.row];
  if (!row) return;
  const { model, serve, price, set } = ask();
  const load = Object.fromEntries(FIELDS.map(([key]) => [key, state[key]]).filter(([, value]) => value));
  const body = {
    model,
    on: row.system,
    serve: { isl: serve.isl, osl: serve.osl, ...load },
    ...(price ? { price } : {}),
    ...(set ? { set } : {}),
  };
  wrong.textContent = "";
  go.disabled = true;
  const box = $("load-answer");
  box.replaceChildren(skeleton(4));
  const done = waiting("load", box, `Playing out requests on ${row.system}`);
  try {
    const answer = await post("/api/plan", body);
    done();
    const made = h("div", {});
    if (!box.isConnected) return;
    box.replaceChildren(
      h(
        "section",
        { class: "load", "aria-label": "For a load" },
        h("h2", { tabindex: -1 }, answer.view.headline),
        h("p", { class: "beneath" }, answer.view.under),
        made,
      ),
    );
    pageOf(made, { ...answer.view, charts: [] }, { strip: false });
    box.querySelector("h2").focus();
  } catch (error) {
    done(false);
    box.replaceChildren();
    wrong.textContent = error.message;
  } finally {
    go.disabled = false;
  }
}
