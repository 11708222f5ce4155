// The product's API, typed: every route, request, answer and error is what docs/openapi.json says.
import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./holdfast.d.ts";

export type * from "./holdfast.d.ts";

type Schemas = components["schemas"];

/** Every error the API answers with; `code` tells them apart, and what else they carry. */
export type Problem = {
  [Name in keyof Schemas]: Name extends `${string}Problem` ? Schemas[Name] : never;
}[keyof Schemas];

export type Holdfast = Client<paths>;

/**
 * Make a client of the API at `baseUrl`.
 *
 * `token` is asked before each request for the user's Supabase access token, which changes when it is
 * refreshed; without it only the public routes answer.
 */
export function holdfast(
  baseUrl: string,
  token?: () => Promise<string | undefined> | string | undefined,
): Holdfast {
  const client = createClient<paths>({ baseUrl });
  client.use({
    async onRequest({ request }) {
      const found = await token?.();
      if (found) request.headers.set("authorization", `Bearer ${found}`);
      return request;
    },
  });
  return client;
}
