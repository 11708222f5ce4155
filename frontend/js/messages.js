// What each error code means to a person, and what to do about it. Codes: docs/errors.md.

import { words } from "./format.js";

const MESSAGES = {
  malformed_request: "The page sent something the server could not read. Reload the page and try again.",
  unauthenticated: "Please sign in again.",
  insufficient_credits: "You do not have enough credits for this. Nothing was charged.",
  forbidden: "Your account may not do this.",
  not_found: "This is not here any more.",
  idempotency_conflict: "This request was already used for something else. Please try again.",
  not_cancelable: "It is too late to cancel: the result is already being stored.",
  not_finished: "It is still under way. Cancel it first.",
  price_changed: "The price has changed. Please look at the new one before you go on.",
  already_subscribed: "You already have a plan. Use “Manage plan” to change it.",
  payload_too_large: "This is too large.",
  invalid_request: "Please check the marked fields.",
  content_rejected: "The content policy does not allow this prompt or picture. Nothing was charged.",
  rate_limited: "That was a bit fast.",
  too_many_active: "You have as many jobs running as allowed. Wait for one to finish.",
  daily_limit: "You have reached your limit for today.",
  internal_error: "Something went wrong on our side. Nothing is lost; please try again.",
  provider_error: "The service that makes the media refused this. Nothing was charged.",
  unavailable: "The service is busy or being repaired. Please try again in a moment; nothing is charged twice.",
  offline: "The server cannot be reached. Check your connection; we keep your request and its key.",
};

// codes of a generation that ended; the provider's own begin with BSE
const JOB_ERRORS = {
  BSE2006: "The content policy does not allow this prompt or picture.",
  output_lost: "Not all files could be stored; you paid only for those you can open.",
  provider_unavailable: "The service was not available.",
  unknown_to_provider: "The service lost the job.",
  never_submitted: "The service could not be reached in time.",
  canceled_by_provider: "The service had stopped the job before it began.",
  provider_overloaded: "The service was too busy to take the job.",
  deadline_exceeded: "The service took too long, so it was stopped.",
  provider_unreachable: "The service no longer answered.",
  refunded_by_operator: "We ended this job and gave the credits back.",
};

/** Explain an `ApiError` in one or two sentences; `areMarked` says that the page shows by its fields what is wrong. */
export function explain(error, { areMarked = false } = {}) {
  if (error.code === "invalid_request" && !areMarked && error.detail) return [error.detail, ...error.fields.map(problem)].join(" ");
  if (error.code === "daily_limit" && !error.retryAfter) return "This alone costs more than you may spend in a day.";
  const known = MESSAGES[error.code];
  const wait = error.retryAfter ? ` Try again ${waiting(error.retryAfter)}.` : "";
  const id = error.code === "internal_error" && error.requestId ? ` (${error.requestId})` : "";
  return (known ?? error.detail ?? MESSAGES.internal_error) + wait + id;
}

function problem({ field, message }) {
  return `${words(field)}: ${message.replace(/\.?$/, ".")}`;
}

/** Explain why a job did not deliver. */
export function explainJob({ code, message }) {
  if (JOB_ERRORS[code]) return JOB_ERRORS[code];
  if (code.startsWith("output_")) return "A file could not be stored; you paid only for what you can open.";
  return message || "The service could not make it.";
}

/** Explain an error of the sign-in service. */
export function explainSignIn({ code }) {
  return {
    invalid_credentials: "This e-mail and password do not fit together.",
    email_not_confirmed: "Please confirm your e-mail first: we sent you a link.",
    user_already_exists: "There is an account with this e-mail. Sign in instead.",
    weak_password: "Please choose a longer password.",
    validation_failed: "Please check the e-mail and the password.",
    over_request_rate_limit: "Too many tries. Please wait a minute.",
    over_email_send_rate_limit: "We have just sent you an e-mail. Please wait a minute before you ask for another.",
    otp_expired: "This link was used before or is too old. Sign in, or sign up again for a new one.",
    offline: MESSAGES.offline,
  }[code] ?? "Signing in did not work. Please try again in a moment.";
}

function waiting(seconds) {
  if (seconds < 90) return `in ${seconds} seconds`;
  if (seconds < 5400) return `in ${Math.round(seconds / 60)} minutes`;
  return `in ${Math.round(seconds / 3600)} hours`;
}
