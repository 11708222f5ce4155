// Calls of the HTTP functions. Every failure is an ApiError with the stable code of docs/errors.md, or `offline`.

import config from "../config.js";
import { accessToken, forget } from "./session.js";

const TRIES = 3;

export class ApiError extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail ?? problem.title ?? "");
    this.status = status;
    this.code = problem.code ?? (status === 429 ? "rate_limited" : status === 0 ? "offline" : "unavailable");
    this.detail = problem.detail;
    this.fields = problem.errors ?? [];
    this.requestId = problem.request_id;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

export const get = (path, query) => request("GET", path + (query ? `?${new URLSearchParams(query)}` : ""));
export const remove = (path) => request("DELETE", path);
export const patch = (path, body) => request("PATCH", path, body);
/** POST; with a `key` a lost answer is asked for again, which cannot do it twice. */
export const post = (path, body, key) => request("POST", path, body, key);

async function request(method, path, body, key) {
  const repeatable = method !== "POST" || Boolean(key);
  let isDoubtful = false; // an earlier try may have taken effect
  for (let tries = 1; ; tries++) {
    try {
      return await once(method, path, body, key);
    } catch (error) {
      const passing = error.code === "offline" || (error.status === 503 && !error.retryAfter);
      error.isDoubtful = isDoubtful;
      isDoubtful ||= passing;
      if (!repeatable || !passing || tries === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 400 * 2 ** tries));
    }
  }
}

async function once(method, path, body, key) {
  const token = await accessToken();
  let answer;
  try {
    answer = await fetch(config.apiUrl + path, {
      method,
      headers: {
        ...(token && { authorization: `Bearer ${token}` }),
        ...(body && { "content-type": "application/json" }),
        ...(key && { "idempotency-key": key }),
      },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, {});
  }
  if (answer.status === 204) return null;
  const data = await answer.json().catch(() => ({}));
  if (answer.ok) return data;
  if (answer.status === 401) forget();
  throw new ApiError(answer.status, data, Number(answer.headers.get("retry-after")) || undefined);
}

/** Upload a picture straight to private storage; resolves to its asset id. */
export async function upload(file) {
  const place = await post("/uploads", { type: file.type, size: file.size });
  let stored;
  try {
    stored = await fetch(place.upload_url, { method: "PUT", headers: { "content-type": file.type }, body: file });
  } catch {
    throw new ApiError(0, {});
  }
  if (!stored.ok) throw new ApiError(stored.status, { code: stored.status === 413 ? "payload_too_large" : "unavailable" });
  return place.asset_id;
}
