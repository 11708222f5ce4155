// Messages at the top of the page, under the bar; they are read out, and stay until they are closed or overtaken.

import { explain } from "./messages.js";
import { h } from "./dom.js";

const place = document.getElementById("notices");
const said = document.getElementById("said");
const top = place.parentElement;

// what is scrolled to comes to lie below the bar and its messages, not under them
new ResizeObserver(() => document.documentElement.style.setProperty("--top", `${top.offsetHeight}px`)).observe(top);

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

/** Read something out that the page shows anyway. */
export function say(text) {
  said.textContent = text;
}

/** Show what went wrong, with the way out where there is one; `areMarked` says that the form shows its fields. */
export function failed(error, { areMarked = false } = {}) {
  if (!error.code) throw error;
  const action = error.code === "insufficient_credits" && { href: "#/credits", text: "Get credits" };
  return notice("bad", explain(error, { areMarked }), { id: error.code, action });
}

export function clearNotices() {
  place.replaceChildren();
}
