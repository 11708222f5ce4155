// Messages at the top of the page; they are read out, and stay until they are closed or overtaken.

import { explain } from "./messages.js";
import { h } from "./dom.js";

const place = document.getElementById("notices");

/** Show a message. `kind` is good, bad or info; another message with the same `id` is replaced. */
export function notice(kind, text, { id, action } = {}) {
  const shown = h("div", { class: `notice ${kind}`, "data-id": id },
    h("span", {}, text),
    action && h("a", { href: action.href }, action.text),
    h("button", { class: "close", "aria-label": "Close this message", onclick: () => shown.remove() }, "×"));
  if (id) place.querySelector(`[data-id="${id}"]`)?.remove();
  place.append(shown);
  while (place.children.length > 3) place.firstElementChild.remove();
  return shown;
}

/** Show what went wrong, with the way out where there is one. */
export function failed(error) {
  if (!error.code) throw error;
  const action = error.code === "insufficient_credits" && { href: "#/credits", text: "Get credits" };
  return notice("bad", explain(error), { id: error.code, action });
}

export function clearNotices() {
  place.replaceChildren();
}
