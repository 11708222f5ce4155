// The account everybody on the page looks at: fetched once, again after whatever moves credits, shared by all tabs.

import { get } from "./api.js";
import { credits, creditsOf, isLess } from "./format.js";
import { h, show } from "./dom.js";
import { notice } from "./notices.js";

const channel = new BroadcastChannel("holdfast.account");
const listeners = new Set();
let account = null;
let warned = false;

channel.onmessage = () => refresh({ quiet: true });

/** Call `listener` with each new account until the function that is returned is called. */
export function onAccount(listener) {
  listeners.add(listener);
  if (account) listener(account);
  return () => listeners.delete(listener);
}

/** Fetch the account; with `moved` the other tabs do so too. */
export async function refresh({ moved = false, quiet = false } = {}) {
  if (moved) channel.postMessage("moved");
  try {
    account = await get("/account");
  } catch (error) {
    if (quiet) return;
    throw error;
  }
  warnWhenLow();
  for (const listener of listeners) listener(account);
}

export function forgetAccount() {
  account = null;
  warned = false;
}

/** Show the balance in the bar. */
export function showBalance(element) {
  onAccount(({ available, reserved, owed }) => {
    element.setAttribute("aria-label", `Credits: ${creditsOf(available)} available, ${creditsOf(reserved)} reserved`);
    show(element,
      h("strong", {}, credits(available)), h("span", {}, " credits"),
      reserved !== "0.000" && h("small", {}, `${credits(reserved)} reserved`),
      owed !== "0.000" && h("small", { class: "owed" }, `${credits(owed)} owed`));
  });
}

function warnWhenLow() {
  const low = isLess(account.available, account.low_balance_credits);
  if (low && !warned) {
    notice("info", `Your balance is low: ${creditsOf(account.available)} left.`,
      { id: "low", action: { href: "#/credits", text: "Get credits" } });
  }
  warned = low;
}
