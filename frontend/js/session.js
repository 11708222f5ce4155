// Sign up, sign in, stay signed in: Supabase Auth over its HTTP API.

import config from "../config.js";

const KEY = "holdfast.session";
const VERIFIER = "holdfast.pkce";
const EARLY_SECONDS = 60; // refresh before the token is too old to arrive
const listeners = new Set();

class AuthError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The session, or null. Another tab may have changed it, so it is read anew each time. */
export function session() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

/** The id of who is signed in, or null; the access token says it. */
export function userId() {
  try {
    return JSON.parse(atob(session().access_token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
  } catch {
    return null;
  }
}

/** Call `listener` whenever somebody signs in or out, in this tab or another. */
export function onChange(listener) {
  listeners.add(listener);
}

window.addEventListener("storage", (event) => {
  if (event.key === KEY && Boolean(event.oldValue) !== Boolean(event.newValue)) tell();
});

/** Return an access token that is good for a while, or null when nobody is signed in. */
export async function accessToken() {
  const now = session();
  if (!now || now.expires_at - EARLY_SECONDS > Date.now() / 1000) return now?.access_token ?? null;
  // one tab refreshes; the others find the new token when the lock is theirs
  return navigator.locks.request("holdfast.refresh", async () => {
    const current = session();
    if (!current || current.expires_at - EARLY_SECONDS > Date.now() / 1000) return current?.access_token ?? null;
    try {
      return keep(await call("token?grant_type=refresh_token", { refresh_token: current.refresh_token })).access_token;
    } catch (error) {
      if (error.code === "offline") throw error;
      forget();
      return null;
    }
  });
}

/** Sign up; resolves to false when the e-mail has to be confirmed first. */
export async function signUp(email, password) {
  const made = await call(`signup?redirect_to=${encodeURIComponent(home())}`, { email, password });
  if (!made.access_token) return false;
  keep(made);
  tell();
  return true;
}

export async function signIn(email, password) {
  keep(await call("token?grant_type=password", { email, password }));
  tell();
}

/** Leave for Google; `finishRedirect` takes over when the user comes back. */
export async function signInWithGoogle() {
  const verifier = base64url(crypto.getRandomValues(new Uint8Array(48)));
  sessionStorage.setItem(VERIFIER, verifier);
  const challenge = base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
  const query = new URLSearchParams({
    provider: "google", redirect_to: home(), code_challenge: challenge, code_challenge_method: "s256",
  });
  location.assign(`${config.supabaseUrl}/auth/v1/authorize?${query}`);
}

/** Finish a sign-in that came back in the address; says whether there was one. */
export async function finishRedirect() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const failed = query.get("error_code") ?? fragment.get("error_code") ?? query.get("error");
  const code = query.get("code");
  if (!failed && !code && !fragment.has("access_token")) return false;
  history.replaceState(null, "", location.pathname); // neither code nor token stays in the history
  if (failed) throw new AuthError(failed, "the sign-in was refused");
  if (code) {
    const verifier = sessionStorage.getItem(VERIFIER);
    sessionStorage.removeItem(VERIFIER);
    keep(await call("token?grant_type=pkce", { auth_code: code, code_verifier: verifier }));
  } else {
    // the link of a confirmation mail
    keep({
      access_token: fragment.get("access_token"),
      refresh_token: fragment.get("refresh_token"),
      expires_at: Number(fragment.get("expires_at")),
    });
  }
  tell();
  return true;
}

export async function signOut() {
  const token = session()?.access_token;
  forget();
  if (token) await call("logout?scope=local", undefined, token).catch(() => {}); // gone here either way
}

/** Forget a session that the server refuses. */
export function forget() {
  localStorage.removeItem(KEY);
  tell();
}

async function call(path, body, token) {
  let answer;
  try {
    answer = await fetch(`${config.supabaseUrl}/auth/v1/${path}`, {
      method: "POST",
      headers: {
        apikey: config.supabasePublishableKey,
        authorization: `Bearer ${token ?? config.supabasePublishableKey}`,
        "content-type": "application/json;charset=UTF-8",
        "x-supabase-api-version": "2024-01-01",
      },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new AuthError("offline", "no answer");
  }
  const data = answer.status === 204 ? null : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new AuthError(data.code ?? data.error_code ?? "unexpected", data.message ?? data.msg ?? "");
  return data;
}

function keep({ access_token, refresh_token, expires_at, expires_in, user }) {
  const kept = {
    access_token,
    refresh_token,
    expires_at: expires_at ?? Math.floor(Date.now() / 1000) + expires_in,
    email: user?.email ?? session()?.email ?? null,
  };
  localStorage.setItem(KEY, JSON.stringify(kept));
  return kept;
}

function tell() {
  for (const listener of listeners) listener();
}

function home() {
  return location.origin + location.pathname;
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
