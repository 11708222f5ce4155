// One generation on the page: its card, and the watch that keeps it up to date until it is final.

import { get, post, remove } from "./api.js";
import { refresh } from "./account.js";
import { confirmed, h, show, whileBusy } from "./dom.js";
import { creditsOf, modelName, when } from "./format.js";
import { explainJob } from "./messages.js";
import { failed, notice, say } from "./notices.js";

const FINAL = new Set(["succeeded", "failed", "canceled"]);
export const STATES = {
  queued: "Waiting", processing: "Being made", storing: "Being stored",
  succeeded: "Ready", failed: "Failed", canceled: "Canceled",
};
const PROGRESS = { queued: 1, processing: 2, storing: 3 };
const POLL = [700, 1000, 1500, 2000, 3000, 5000]; // milliseconds, the last one for as long as it takes

/** A card of a generation, which keeps itself up to date. `onGone` is called when it was deleted. */
export function jobCard(generation, { onGone } = {}) {
  const card = h("article", { class: "card", "data-id": generation.id, tabIndex: -1 });
  let shown = null;
  let status = generation.status;
  draw(generation);
  if (!FINAL.has(generation.status)) watch();
  return card;

  async function watch() {
    for (let turn = 0; ; turn++) {
      await pause(POLL[Math.min(turn, POLL.length - 1)]);
      if (turn && !card.isConnected) return;
      let found;
      try {
        found = await get(`/generations/${generation.id}`);
      } catch (error) {
        if (error.code === "not_found" || error.code === "unauthenticated") return;
        continue; // away for a moment: the job goes on without us
      }
      draw(found);
      if (FINAL.has(found.status)) {
        refresh({ moved: true, quiet: true });
        return;
      }
    }
  }

  function draw(found) {
    const print = JSON.stringify({ ...found, outputs: found.outputs.map(({ n }) => n) });
    if (print === shown) return;
    shown = print;
    card.setAttribute("aria-label", `${STATES[found.status]}: ${found.prompt}`);
    card.dataset.status = found.status;
    const focused = card.contains(document.activeElement) && document.activeElement;
    show(card, media(found, again), about(found), FINAL.has(found.status) && history(found), actions(found));
    if (focused) (sameControl(focused) ?? card).focus({ preventScroll: true });
    if (found.status !== status && FINAL.has(found.status))
      say(`${STATES[found.status]}: ${modelName(found.model)}, ${start(found.prompt)}`);
    status = found.status;
  }

  /** What takes the place of a control that was drawn anew. */
  function sameControl({ tagName, textContent }) {
    return [...card.querySelectorAll(tagName)].find((control) => control.textContent === textContent);
  }

  async function again() {
    // a signed URL is good for minutes: fetch the job anew
    shown = null;
    draw(await get(`/generations/${generation.id}`));
  }

  function actions(found) {
    const row = h("div", { class: "row" });
    for (const output of found.outputs) {
      if (!output.download_url) continue;
      row.append(h("a", { class: "button plain", href: output.download_url, rel: "noreferrer" },
        found.outputs.length > 1 ? `Download ${output.n + 1}` : "Download"));
    }
    if (found.status === "queued" || found.status === "processing") {
      const cancel = h("button", { class: "plain" }, "Cancel");
      cancel.addEventListener("click", () => whileBusy(cancel, "Canceling …", async () => {
        try {
          const { outcome } = await post(`/generations/${found.id}/cancel`, {}, `cancel-${found.id}`);
          if (outcome === "cancel_requested") notice("info", "We asked for it to be stopped. If it is done first, you keep it.");
          else await again();
          await refresh({ moved: true, quiet: true });
        } catch (error) {
          failed(error);
        }
      }));
      row.append(cancel);
    } else if (FINAL.has(found.status)) {
      const bin = h("button", { class: "plain" }, "Delete");
      bin.addEventListener("click", async () => {
        if (!await confirmed("Delete this for good? What it cost stays in your ledger.", "Delete")) return;
        await whileBusy(bin, "Deleting …", async () => {
          try {
            await remove(`/generations/${found.id}`);
            const next = card.nextElementSibling ?? card.previousElementSibling ?? document.getElementById("main");
            card.remove();
            next.focus();
            onGone?.(found.id);
          } catch (error) {
            failed(error);
          }
        });
      });
      row.append(bin);
    }
    return row;
  }
}

function media(found, again) {
  if (found.outputs.length) {
    return h("div", { class: `media n${Math.min(found.outputs.length, 4)}` }, found.outputs.map((output) => {
      if (!output.url) return h("p", { class: "quiet" }, "This file was removed.");
      const renew = () => again().catch(() => {});
      return output.content_type.startsWith("video/")
        ? h("video", { src: output.url, controls: true, preload: "metadata", playsInline: true, "aria-label": found.prompt, onerror: once(renew) })
        : h("img", { src: output.url, alt: found.prompt, loading: "lazy", onerror: once(renew) });
    }));
  }
  const step = PROGRESS[found.status];
  return h("div", { class: "media empty" },
    step
      ? h("progress", { max: 4, value: step, "aria-label": STATES[found.status] })
      : h("span", { class: "mark", "aria-hidden": "true" }, found.status === "failed" ? "!" : "–"));
}

function about(found) {
  const cost = found.charged_credits === null
    ? `${creditsOf(found.cost_credits)} reserved`
    : found.refunded_credits === "0.000"
      ? creditsOf(found.charged_credits)
      : `${creditsOf(found.charged_credits)}, ${creditsOf(found.refunded_credits)} given back`;
  return h("div", { class: "about" },
    h("p", { class: "prompt" }, found.prompt),
    h("p", { class: "facts" },
      h("span", { class: `state ${found.status}` }, STATES[found.status]),
      h("span", {}, modelName(found.model)), h("span", {}, cost),
      h("time", { dateTime: found.created_at }, when(found.created_at))),
    found.error && h("p", { class: "problem" }, explainJob(found.error)));
}

/** What happened to a job, fetched when somebody wants to know. */
function history(found) {
  const steps = h("ol", { class: "quiet" });
  const box = h("details", {}, h("summary", {}, "What happened"), steps);
  box.addEventListener("toggle", async () => {
    if (!box.open) return;
    try {
      const { events } = await get(`/generations/${found.id}/events`);
      show(steps, events.map(({ to_status: to, reason, created_at: at }) =>
        h("li", {}, `${when(at)}: ${STATES[to]}${reason ? `, ${reason}` : ""}`)));
    } catch (error) {
      failed(error);
    }
  });
  return box;
}

/** The beginning of a prompt, as much as is bearable to be read out. */
function start(prompt) {
  return prompt.length > 60 ? `${prompt.slice(0, 60)} …` : prompt;
}

function once(action) {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}

/** Wait; longer while nobody looks at the page. */
function pause(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(() => {
      if (!document.hidden) resolve();
      else document.addEventListener("visibilitychange", resolve, { once: true });
    }, milliseconds);
  });
}
