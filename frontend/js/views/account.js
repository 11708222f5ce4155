// The account: who is signed in, when to be warned, own pictures; for admins, credits by hand.

import { get, patch, post, remove } from "../api.js";
import { onAccount, refresh } from "../account.js";
import { confirmed, field, h, show, whileBusy } from "../dom.js";
import { credits, creditsOf, when } from "../format.js";
import { failed, notice } from "../notices.js";
import { session, signOut, userId } from "../session.js";

export async function accountView(main) {
  const threshold = h("input", { name: "low_balance_credits", inputMode: "decimal", pattern: "\\d{1,6}(\\.\\d{1,3})?", required: true });
  const save = h("button", { type: "submit" }, "Save");
  const warn = h("form", { class: "row" }, field("Warn me below (credits)", threshold, "0 never warns."), save);
  const uploads = h("section", { class: "panel", "aria-label": "Your uploads" });
  const alerts = h("section", { class: "panel", "aria-label": "Alerts" });
  const gift = h("p", { class: "quiet" });
  const id = h("input", { value: userId() ?? "", readOnly: true });
  const copy = h("button", { type: "button", class: "plain" }, "Copy");
  const admin = adminPanel();
  copy.addEventListener("click", async () => {
    id.select(); // where copying is forbidden, it can be done by hand
    await navigator.clipboard.writeText(id.value).then(() => notice("good", "Copied.", { id: "copied" }), () => {});
  });
  warn.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(save, "Saving …", async () => {
      try {
        await patch("/account", { low_balance_credits: threshold.value });
        notice("good", "Saved.", { id: "saved" });
        await refresh({ moved: true });
      } catch (error) {
        failed(error);
      }
    });
  });
  show(main,
    h("h1", {}, "Account"),
    h("section", { class: "panel" },
      h("p", {}, "Signed in as ", h("strong", {}, session()?.email ?? "you"), "."), gift,
      h("div", { class: "row id" }, field("Your id", id, "Support asks for it."), copy),
      warn, h("button", { class: "plain", onclick: signOut }, "Sign out")),
    uploads, alerts, admin);
  const stop = onAccount((account) => {
    if (document.activeElement !== threshold) threshold.value = credits(account.low_balance_credits);
    admin.hidden = account.role !== "admin";
    gift.textContent = account.welcome === "waiting" ? "Confirm your e-mail to get your welcome credits." : "";
  });
  await Promise.all([refresh(), drawUploads(uploads), drawAlerts(alerts)]);
  return stop;
}

/** Give or take credits. Only the server decides who may; this is hidden from everybody else to spare them. */
function adminPanel() {
  const user = h("input", { name: "user_id", required: true, pattern: "[0-9a-f\\-]{36}", autocomplete: "off" });
  const amount = h("input", { name: "amount", inputMode: "decimal", required: true, pattern: "-?\\d{1,5}(\\.\\d{1,3})?", autocomplete: "off" });
  const reason = h("input", { name: "reason", required: true, minLength: 3, maxLength: 500 });
  const save = h("button", { type: "submit" }, "Adjust");
  const form = h("form", {},
    field("User", user, "The id of the account."),
    field("Credits", amount, "Below zero takes some."),
    field("Reason", reason, "Kept with your name."), save);
  let asked = null; // the same wish has the same key until it is done: pressed twice it is done once
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(save, "Adjusting …", async () => {
      try {
        const wish = { user_id: user.value, amount: amount.value, reason: reason.value };
        if (JSON.stringify(wish) !== JSON.stringify(asked?.wish)) asked = { wish, key: crypto.randomUUID() };
        const done = await post("/admin/adjustments", wish, asked.key);
        notice("good", `${credits(done.amount)} credits: ${done.outcome}.`, { id: "adjusted" });
        asked = null;
        form.reset();
        await refresh({ moved: true });
      } catch (error) {
        // it is somebody else who has not enough
        if (error.code === "insufficient_credits") notice("bad", error.detail, { id: "adjusted" });
        else failed(error);
      }
    });
  });
  return h("section", { class: "panel", "aria-label": "Credits by hand", hidden: true }, h("h2", {}, "Credits by hand"), form);
}

async function drawUploads(place) {
  const { uploads } = await get("/uploads");
  show(place, h("h2", {}, "Your uploads"),
    uploads.length === 0 && h("p", { class: "quiet" }, "Pictures that you start from appear here."),
    h("div", { class: "thumbs" }, uploads.map((picture) => {
      const bin = h("button", { class: "plain" }, "Delete");
      const item = h("figure", {},
        picture.url ? h("img", { src: picture.url, alt: `Uploaded ${when(picture.created_at)}`, loading: "lazy" }) : h("p", { class: "quiet" }, "empty"),
        h("figcaption", {}, bin));
      bin.addEventListener("click", async () => {
        if (!await confirmed("Delete this picture?", "Delete")) return;
        await whileBusy(bin, "Deleting …", () => remove(`/uploads/${picture.asset_id}`).then(() => item.remove(), failed));
      });
      return item;
    })));
}

async function drawAlerts(place) {
  const { alerts } = await get("/alerts");
  show(place, h("h2", {}, "Alerts"),
    alerts.length === 0 && h("p", { class: "quiet" }, "None."),
    h("ul", {}, alerts.map((alert) => h("li", {},
      `${when(alert.created_at)}: your balance fell to ${creditsOf(alert.available)}, below ${credits(alert.threshold)}.`))));
}
