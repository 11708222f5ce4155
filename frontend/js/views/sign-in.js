// The way in: sign in or sign up, by e-mail or with Google.

import config from "../../config.js";
import { field, h, show, whileBusy } from "../dom.js";
import { explainSignIn } from "../messages.js";
import { clearNotices, notice } from "../notices.js";
import { signIn, signInWithGoogle, signUp } from "../session.js";

export function signInView(main) {
  const email = h("input", { name: "email", type: "email", autocomplete: "username", required: true });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true, minLength: 6 });
  const enter = h("button", { type: "submit", value: "in" }, "Sign in");
  const join = h("button", { type: "submit", value: "up", class: "plain" }, "Sign up");
  const form = h("form", { class: "panel narrow" },
    h("h1", {}, "Make pictures and videos"),
    h("p", { class: "quiet" }, "Pay with credits, and only for what you can open."),
    field("E-mail", email), field("Password", password, "At least 6 characters."),
    h("div", { class: "row" }, enter, join),
    config.google && h("button", { type: "button", class: "plain wide", onclick: signInWithGoogle }, "Continue with Google"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.submitter ?? enter;
    whileBusy(button, "One moment …", async () => {
      clearNotices();
      try {
        if (button.value === "in") await signIn(email.value, password.value);
        else if (!await signUp(email.value, password.value))
          notice("info", "We sent you an e-mail. Follow its link to finish.");
      } catch (error) {
        if (!error.code) throw error;
        notice("bad", explainSignIn(error), { id: "sign-in" });
        password.focus();
      }
    });
  });
  show(main, form);
  email.focus();
}
