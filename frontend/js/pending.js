// The request whose answer we have not seen. Asked again with its own key, it cannot start a second job.

import { onChange, session, userId } from "./session.js";

const KEPT = "holdfast.pending";
const FAILED_FOR_GOOD = "No credits were charged"; // docs/errors.md, "Which key to use again"

onChange(() => { if (!session()) forget(); });

/** What this user asked for and never learned the end of, or null. Somebody else's is forgotten. */
export function kept() {
  const found = JSON.parse(sessionStorage.getItem(KEPT));
  if (found && found.user !== userId()) {
    forget();
    return null;
  }
  return found && { ...found, isAgain: true };
}

/** Keep `request` until its end is known; the same wish keeps its key, whatever price was shown since. */
export function keep(request) {
  const before = kept();
  const isAgain = before !== null && wishOf(before.request) === wishOf(request);
  const pending = { user: userId(), key: isAgain ? before.key : crypto.randomUUID(), request };
  sessionStorage.setItem(KEPT, JSON.stringify(pending));
  return { ...pending, isAgain };
}

/** Its end is known: the next press is a new request. */
export function done({ key }) {
  if (kept()?.key === key) forget();
}

/** Decide by an error whether a try with this key may have taken effect, or yet will. */
export function doubt(pending, error) {
  const isUnknown = error.code === "offline" || error.status >= 500;
  const saysNothing = error.status === 429 || error.status === 401; // may be said before the key is looked up
  const isDoubtful = isUnknown || error.isDoubtful || (saysNothing && pending.isAgain);
  if (!isDoubtful || error.detail?.includes(FAILED_FOR_GOOD)) done(pending);
}

function forget() {
  sessionStorage.removeItem(KEPT);
}

function wishOf(request) {
  return JSON.stringify({ ...request, max_cost_credits: undefined });
}
