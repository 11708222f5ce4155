// The page: who is signed in decides what is shown, the part of the address after # decides which view.

import { forgetAccount, refresh, showBalance } from "./account.js";
import { h, show } from "./dom.js";
import { explain, explainSignIn } from "./messages.js";
import { clearNotices, notice } from "./notices.js";
import { finishRedirect, onChange, session } from "./session.js";
import { accountView } from "./views/account.js";
import { createView } from "./views/create.js";
import { creditsView, welcomeBack } from "./views/credits.js";
import { libraryView } from "./views/library.js";
import { signInView } from "./views/sign-in.js";

const VIEWS = { create: createView, library: libraryView, credits: creditsView, account: accountView };
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const balance = document.getElementById("balance");
let leave = null;
let turn = 0;

async function route({ focus = true } = {}) {
  const mine = ++turn;
  leave?.();
  leave = null;
  const isIn = session() !== null;
  nav.hidden = balance.hidden = !isIn;
  if (!isIn) {
    forgetAccount();
    signInView(main);
    return;
  }
  const name = Object.hasOwn(VIEWS, location.hash.slice(2)) ? location.hash.slice(2) : "create";
  for (const link of nav.children) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · Holdfast`;
  show(main, h("p", { class: "quiet" }, "Loading …"));
  refresh({ quiet: true });
  const place = h("div");
  try {
    const stop = await VIEWS[name](place);
    if (mine !== turn) return stop?.();
    leave = stop ?? null;
    show(main, place);
  } catch (error) {
    if (mine !== turn || error.code === "unauthenticated") return;
    if (!error.code) throw error;
    show(main, h("div", { class: "panel narrow" },
      h("p", {}, explain(error)), h("button", { onclick: () => route() }, "Try again")));
  }
  if (focus) main.focus({ preventScroll: true });
}

onChange(() => {
  clearNotices();
  route();
});
window.addEventListener("hashchange", () => route());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // an address without a view would open another one
  main.focus();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && session()) refresh({ quiet: true });
});
showBalance(balance);
try {
  await finishRedirect();
} catch (error) {
  notice("bad", explainSignIn(error), { id: "sign-in" });
}
if (session()) welcomeBack();
await route({ focus: false });
