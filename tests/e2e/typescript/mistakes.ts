// What must not compile: each line below is a mistake that the types are there to find.
import { holdfast } from "./client/index.ts";

const api = holdfast("");

// @ts-expect-error: there is no such route
await api.GET("/balance");
// @ts-expect-error: a prompt is text
await api.POST("/estimates", { body: { model: "bfl/flux-schnell", prompt: 7 } });
// @ts-expect-error: a generation needs an idempotency key
await api.POST("/generations", { body: { model: "bfl/flux-schnell", prompt: "a boat" } });
// @ts-expect-error: no generation is ever "done"
await api.GET("/generations", { params: { query: { status: "done" } } });

const { data, error } = await api.GET("/account");
// @ts-expect-error: credits are text, nothing to reckon with
if (data) data.available + 1 > 2 && data.available.toFixed(3);
// @ts-expect-error: looking at an account costs nothing
if (error?.code === "insufficient_credits") console.log(error.detail);
