// The account: who is signed in, when to be warned, own pictures.

import { get, patch, remove } from "../api.js";
import { onAccount, refresh } from "../account.js";
import { confirmed, field, h, show, whileBusy } from "../dom.js";
import { credits, creditsOf, when } from "../format.js";
import { failed, notice } from "../notices.js";
import { session, signOut } from "../session.js";

export async function accountView(main) {
  const threshold = h("input", { name: "low_balance_credits", inputMode: "decimal", pattern: "\\d{1,6}(\\.\\d{1,3})?", required: true });
  const save = h("button", { type: "submit" }, "Save");
  const warn = h("form", { class: "row" }, field("Warn me below (credits)", threshold, "0 never warns."), save);
  const uploads = h("section", { class: "panel", "aria-label": "Your uploads" });
  const alerts = h("section", { class: "panel", "aria-label": "Alerts" });
  const gift = h("p", { class: "quiet" });
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
      warn, h("button", { class: "plain", onclick: signOut }, "Sign out")),
    uploads, alerts);
  const stop = onAccount((account) => {
    if (document.activeElement !== threshold) threshold.value = credits(account.low_balance_credits);
    gift.textContent = account.welcome === "waiting" ? "Confirm your e-mail to get your welcome credits." : "";
  });
  await Promise.all([refresh(), drawUploads(uploads), drawAlerts(alerts)]);
  return stop;
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
