// The main journey through the typed client: what it buys, asks, waits for and is refused is printed as JSON.
import { holdfast, type GenerationView, type Problem } from "./client/index.ts";

declare const process: { env: Record<string, string | undefined> };

const apiUrl = process.env["API_URL"] ?? "";
const api = holdfast(apiUrl, async () => process.env["TOKEN"]);
const nobody = holdfast(apiUrl);

/** Return what an answer carries, or stop with the problem's code. */
function must<Data>(answer: { data?: Data; error?: Problem }): Data {
  if (answer.error) throw new Error(`${answer.error.status} ${answer.error.code}`);
  return answer.data as Data;
}

/** Look again until there is something to see. */
async function wait<Seen>(look: () => Promise<Seen | undefined>): Promise<Seen> {
  for (let tries = 0; tries < 400; tries += 1) {
    const seen = await look();
    if (seen !== undefined) return seen;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("it did not happen in time");
}

const catalog = must(await nobody.GET("/catalog"));
const models = must(await nobody.GET("/models"));
const refused = await nobody.GET("/account");
const before = must(await api.GET("/account"));

const image = models.models.find((model) => model.kind === "image" && model.output_count === 1);
const pack = catalog.packs[0];
if (image === undefined || pack === undefined) throw new Error("nothing to buy or to generate");
const wish = { model: image.id, prompt: "A lighthouse at dawn, oil on canvas" };

// without credits: the code alone says which further fields there are
const poor = await api.POST("/generations", {
  params: { header: { "idempotency-key": crypto.randomUUID() } },
  body: wish,
});
const missing = poor.error?.code === "insufficient_credits" ? poor.error.cost_credits : undefined;

const checkout = must(await api.POST("/checkout", { body: { pack_id: pack.id } }));
await fetch(checkout.checkout_url, {
  method: "POST",
  body: new URLSearchParams({ action: "pay" }),
  redirect: "manual",
});
const paid = await wait(async () => {
  const found = must(
    await api.GET("/checkout/{session_id}", {
      params: { path: { session_id: checkout.session_id } },
    }),
  );
  return found.status === "paid" ? found : undefined;
});

const estimate = must(await api.POST("/estimates", { body: wish }));
const accepted = must(
  await api.POST("/generations", {
    params: { header: { "idempotency-key": crypto.randomUUID() } },
    body: { ...wish, max_cost_credits: estimate.cost_credits },
  }),
);
const path = { generation_id: accepted.id };
const done: GenerationView = await wait(async () => {
  const found = must(await api.GET("/generations/{generation_id}", { params: { path } }));
  return found.finished_at ? found : undefined;
});
const picture = await fetch(done.outputs[0]?.url ?? "");

const late = await api.POST("/generations/{generation_id}/cancel", { params: { path } });
const library = must(
  await api.GET("/generations", { params: { query: { kind: "image", status: "succeeded" } } }),
);
const after = must(await api.GET("/account"));
const entries = must(await api.GET("/account/ledger", { params: { query: { limit: 10 } } })).entries;
const removed = await api.DELETE("/generations/{generation_id}", { params: { path } });

console.log(
  JSON.stringify({
    refused: refused.error?.code,
    before: before.available,
    missing,
    paid: paid.credits,
    cost: estimate.cost_credits,
    status: done.status,
    picture: picture.headers.get("content-type"),
    late: late.error?.code === "not_cancelable" ? late.error.generation_status : undefined,
    library: library.generations.map((generation) => generation.id === done.id),
    after: after.available,
    entries: entries.map((entry) => entry.type).reverse(),
    removed: removed.response.status,
  }),
);
