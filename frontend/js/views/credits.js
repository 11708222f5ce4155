// Credits: what there is, what can be bought, and every movement.

import { get, post } from "../api.js";
import { onAccount, refresh } from "../account.js";
import { h, show, whileBusy } from "../dom.js";
import { credits, creditsOf, day, money, when } from "../format.js";
import { failed, notice } from "../notices.js";

const TYPES = {
  grant: "Credits in", reserve: "Reserved", charge: "Charged", refund: "Given back",
  expire: "Expired", clawback: "Taken back", restore: "Restored",
};
const SOURCES = { pack: "Pack", plan: "Plan", welcome: "Welcome", adjustment: "From us", restored: "Came back" };

const ENDS = new Set(["paid", "failed", "expired"]); // of a checkout
const PAYMENT = "holdfast.payment"; // one that was on its way when we last asked

export async function creditsView(main) {
  const balance = h("section", { class: "panel", "aria-label": "Balance" });
  const offers = h("section", { class: "offers", "aria-label": "Packs and plans" });
  const ledger = h("section", { class: "panel", "aria-label": "Ledger" });
  show(main, h("h1", {}, "Credits"), balance, offers, ledger);
  const stop = onAccount((account) => drawBalance(balance, account));
  const [catalog] = await Promise.all([get("/catalog"), refresh(), drawLedger(ledger)]);
  drawOffers(offers, catalog);
  return stop;
}

function drawBalance(place, account) {
  const figure = (name, value, hint) => h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, credits(value)), hint && h("dd", { class: "hint" }, hint));
  const { plan } = account;
  show(place,
    h("dl", { class: "figures" },
      figure("Available", account.available),
      figure("Reserved", account.reserved, "for jobs under way"),
      account.owed !== "0.000" && figure("Owed", account.owed, "paid by the next credits")),
    plan && h("p", {},
      `Plan: ${plan.plan_id}, ${plan.interval}ly, ${plan.status}. `,
      plan.current_period_end && (plan.cancel_at_period_end ? `Ends on ${day(plan.current_period_end)}.` : `Renews on ${day(plan.current_period_end)}.`),
      " ", portalButton("Manage plan")),
    !plan && account.has_billing && h("p", {}, portalButton("Cards and invoices")),
    account.grants.length > 0 && h("table", {},
      h("caption", {}, "In the order they are spent"),
      h("thead", {}, h("tr", {}, ["From", "Left", "Of", "Expires"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, account.grants.map((grant) => h("tr", {},
        h("td", {}, grant.description || SOURCES[grant.source] || grant.source),
        h("td", { class: "number" }, credits(grant.remaining)),
        h("td", { class: "number" }, credits(grant.amount)),
        h("td", {}, grant.expires_at ? day(grant.expires_at) : "never"))))));
}

function drawOffers(place, { packs, plans = [] }) {
  const offer = (title, amount, note, order, action, label) => {
    const button = h("button", { class: "wide" }, action);
    button.setAttribute("aria-label", `${action} ${label}`);
    button.addEventListener("click", () => whileBusy(button, "To the payment page …", () => buy(order)));
    return h("article", { class: "offer", "aria-label": title }, h("h3", {}, title), h("p", { class: "amount" }, amount), h("p", { class: "hint" }, note), button);
  };
  const paid = plans.filter(({ prices }) => prices.length);
  show(place,
    h("h2", {}, "Packs"),
    h("div", { class: "shelf" }, packs.map((pack) => offer(
      pack.name, money(pack.amount_minor, pack.currency), `${creditsOf(pack.credits)}, once`,
      { pack_id: pack.id }, "Buy", `${pack.name}: ${creditsOf(pack.credits)} for ${money(pack.amount_minor, pack.currency)}`))),
    paid.length > 0 && h("h2", {}, "Plans"),
    paid.length > 0 && h("div", { class: "shelf" }, paid.flatMap((plan) => plan.prices.map((price) => offer(
      plan.name, `${money(price.amount_minor, price.currency)} a ${price.interval}`, `${creditsOf(plan.credits)} a month`,
      { plan_id: plan.id, interval: price.interval }, "Subscribe",
      `to ${plan.name}: ${creditsOf(plan.credits)} a month for ${money(price.amount_minor, price.currency)} a ${price.interval}`)))));
}

async function buy(order) {
  try {
    const { checkout_url: url } = await post("/checkout", {
      ...order,
      success_path: `${location.pathname}?paid=1`,
      cancel_path: `${location.pathname}?paid=0`,
    });
    location.assign(url);
  } catch (error) {
    failed(error);
  }
}

function portalButton(name) {
  const button = h("button", { class: "plain" }, name);
  button.addEventListener("click", () => whileBusy(button, "One moment …", async () => {
    try {
      location.assign((await post("/billing-portal", { return_path: `${location.pathname}?managed=1` })).url);
    } catch (error) {
      failed(error);
    }
  }));
  return button;
}

async function drawLedger(place) {
  const rows = h("tbody");
  const more = h("button", { class: "plain", hidden: true }, "Show more");
  let cursor = null;
  const signed = (text) => (text.startsWith("-") ? `−${credits(text.slice(1))}` : text === "0.000" ? "" : `+${credits(text)}`);
  const load = async () => {
    const page = await get("/account/ledger", cursor ? { limit: 20, cursor } : { limit: 20 });
    cursor = page.next_cursor;
    more.hidden = !cursor;
    rows.append(...page.entries.map((entry) => h("tr", {},
      h("td", {}, when(entry.created_at)),
      h("td", {}, TYPES[entry.type] ?? entry.type, entry.description && h("small", { class: "hint" }, ` ${entry.description}`)),
      h("td", { class: "number" }, signed(entry.available_delta)),
      h("td", { class: "number" }, signed(entry.reserved_delta)),
      h("td", { class: "number" }, entry.available_after === null ? "" : credits(entry.available_after)))));
  };
  more.addEventListener("click", () => whileBusy(more, "Loading …", () => load().catch(failed)));
  show(place,
    h("h2", {}, "Every movement"),
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Ledger entries" }, h("table", {},
      h("thead", {}, h("tr", {}, ["When", "What", "Available", "Reserved", "Balance"].map((name) => h("th", { scope: "col" }, name)))),
      rows)),
    more);
  await load();
  if (!rows.children.length) rows.append(h("tr", {}, h("td", { colSpan: 5, class: "quiet" }, "Nothing yet.")));
}

/** Tell a user who comes back from Stripe, or later, what became of a payment. */
export async function welcomeBack() {
  const query = new URLSearchParams(location.search);
  if (query.has("paid") || query.has("managed")) history.replaceState(null, "", `${location.pathname}#/credits`);
  if (!query.has("paid")) {
    const before = localStorage.getItem(PAYMENT);
    if (before) await tellOf(before).catch(({ code }) => code === "not_found" && localStorage.removeItem(PAYMENT));
    return;
  }
  const id = query.get("session_id");
  if (query.get("paid") !== "1" || !id) {
    notice("info", "You did not pay. Nothing was charged.", { id: "payment" });
    return;
  }
  notice("info", "We are waiting for the payment to be confirmed …", { id: "payment" });
  for (let tries = 0; tries < 20; tries++) {
    let status;
    try {
      status = await tellOf(id);
    } catch (error) {
      failed(error);
      return;
    }
    if (ENDS.has(status)) return;
    if (status === "pending" && tries > 2) break;
    await new Promise((resolve) => setTimeout(resolve, 500 * (tries + 1)));
  }
  localStorage.setItem(PAYMENT, id); // to be told at a later visit
  notice("info", "The payment is on its way; your credits come when it has arrived.", { id: "payment" });
}

/** Return what became of a payment, and tell the user if it has ended. */
async function tellOf(id) {
  const { status } = await get(`/checkout/${encodeURIComponent(id)}`);
  if (!ENDS.has(status)) return status;
  localStorage.removeItem(PAYMENT);
  if (status !== "paid") {
    notice("bad", "The payment did not work. Nothing was charged.", { id: "payment" });
    return status;
  }
  notice("good", "Thank you! Your payment has arrived.", { id: "payment" });
  await refresh({ moved: true, quiet: true });
  // a plan's credits come with its invoice, which may be a moment behind
  setTimeout(() => refresh({ moved: true, quiet: true }), 3000);
  return status;
}
