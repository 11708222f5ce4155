// The real supabase-js, unchanged, against the stand-in: what the Python tests ask of theirs.
// Prints one JSON object: scenario name -> null, or the stack of what went wrong.
// The package lies outside this folder (SUPABASE_JS names where), so it is required, not imported.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { Readable } from "node:stream";

const require = createRequire(`${process.env.SUPABASE_JS}/`);
const { createClient } = require("@supabase/supabase-js");
const { SUPABASE_URL: url, PUBLISHABLE_KEY: publishable, SECRET_KEY: secret } = process.env;
const password = "correct horse";
const returnTo = "http://localhost:3000/welcome?from=google";

const newEmail = () => `js-${randomUUID()}@example.com`;
const text = (body) => new Blob([body], { type: "text/plain" });

function newClient(options = {}) {
  const { key = publishable, fetch: fetcher, ...auth } = options;
  return createClient(url, key, {
    auth: { autoRefreshToken: false, persistSession: false, ...auth },
    ...(fetcher ? { global: { fetch: fetcher } } : {}),
  });
}

async function newUser(options) {
  const client = newClient(options);
  const { data, error } = await client.auth.signUp({ email: newEmail(), password });
  assert.equal(error, null);
  return { client, user: data.user, session: data.session, bucket: client.storage.from("mixes") };
}

function ok({ data, error }) {
  assert.equal(error, null);
  return data;
}

function refused({ error }, status, code, message) {
  assert.ok(error, "nothing was refused");
  assert.deepEqual([error.status, error.code], [status, code]);
  if (message) assert.match(error.message, message);
}

// Storage answers 400 and tells the real status in the body
function denied({ error }, statusCode, code) {
  assert.ok(error, "nothing was denied");
  assert.deepEqual([error.status, error.statusCode, error.code], [400, statusCode, code]);
}

const scenarios = {
  async sign_up_gives_a_session() {
    const { user, session } = await newUser();
    assert.equal(user.role, "authenticated");
    assert.equal(user.identities[0].provider, "email");
    assert.equal(session.token_type, "bearer");
    assert.equal(session.expires_in, 3600);
  },

  async sign_up_refuses_a_weak_password() {
    const answer = await newClient().auth.signUp({ email: newEmail(), password: "12345" });
    refused(answer, 422, "weak_password");
    assert.deepEqual(answer.error.reasons, ["length"]);
  },

  async sign_up_refuses_a_duplicate() {
    const { user } = await newUser();
    const answer = await newClient().auth.signUp({ email: user.email, password });
    refused(answer, 422, "user_already_exists", /already registered/);
  },

  async sign_in_with_password() {
    const { user } = await newUser();
    const client = newClient();
    const wrong = await client.auth.signInWithPassword({ email: user.email, password: "no" });
    refused(wrong, 400, "invalid_credentials");
    const right = ok(await client.auth.signInWithPassword({ email: user.email, password }));
    assert.equal(right.user.id, user.id);
    assert.equal(ok(await client.auth.getUser()).user.email, user.email);
  },

  async claims_cost_one_fetch_of_the_keys() {
    let fetched = 0;
    const { client, user } = await newUser({
      fetch: (target, init) => {
        fetched += String(target).endsWith("jwks.json");
        return fetch(target, init);
      },
    });
    for (let i = 0; i < 2; i++) {
      assert.equal(ok(await client.auth.getClaims()).claims.sub, user.id);
    }
    assert.equal(fetched, 1);
  },

  async refresh_rotates() {
    const { client, session } = await newUser();
    const after = ok(await client.auth.refreshSession()).session;
    assert.notEqual(after.refresh_token, session.refresh_token);
    const unknown = await newClient().auth.refreshSession({ refresh_token: "abcdefghijkl" });
    refused(unknown, 400, "refresh_token_not_found");
  },

  async user_can_be_changed() {
    const { client, user } = await newUser();
    ok(await client.auth.updateUser({ data: { nick: "al" } }));
    const changed = ok(await client.auth.updateUser({ password: "better horse" }));
    assert.equal(changed.user.user_metadata.nick, "al");
    const again = { email: user.email, password: "better horse" };
    ok(await newClient().auth.signInWithPassword(again));
  },

  async sign_out_ends_the_session() {
    const { client, session } = await newUser();
    assert.equal((await client.auth.signOut()).error, null);
    const { error } = await newClient().auth.getUser(session.access_token);
    assert.equal(error.name, "AuthSessionMissingError");
  },

  async bad_token_is_refused() {
    refused(await newClient().auth.getUser("a.b.c"), 403, "bad_jwt");
  },

  async google_by_pkce() {
    const client = newClient({ flowType: "pkce" });
    const options = { redirectTo: returnTo, skipBrowserRedirect: true };
    const started = ok(await client.auth.signInWithOAuth({ provider: "google", options }));
    const answer = await fetch(started.url, { redirect: "manual" });
    assert.equal(answer.status, 302);
    const target = new URL(answer.headers.get("location"));
    assert.equal(target.searchParams.get("from"), "google");
    const code = target.searchParams.get("code");
    const { session } = ok(await client.auth.exchangeCodeForSession(code));
    assert.equal(session.user.user_metadata.full_name, "Grace Example");
    assert.ok(session.provider_token);
    assert.equal(ok(await client.auth.getUser()).user.id, session.user.id);
    const stranger = newClient({ flowType: "pkce" });
    assert.ok((await stranger.auth.exchangeCodeForSession(code)).error);
  },

  async google_by_the_implicit_flow() {
    const client = newClient({ flowType: "implicit" });
    const options = { redirectTo: returnTo, skipBrowserRedirect: true };
    const started = ok(await client.auth.signInWithOAuth({ provider: "google", options }));
    const answer = await fetch(started.url, { redirect: "manual" });
    const fragment = new URLSearchParams(new URL(answer.headers.get("location")).hash.slice(1));
    assert.equal(fragment.get("token_type"), "bearer");
    const { user } = ok(
      await client.auth.setSession({
        access_token: fragment.get("access_token"),
        refresh_token: fragment.get("refresh_token"),
      }),
    );
    assert.equal(user.app_metadata.provider, "google");
  },

  async each_kind_of_body_uploads() {
    const { bucket, user } = await newUser();
    const bodies = {
      blob: text("hello"),
      buffer: Buffer.from("hello"),
      string: "hello",
      stream: Readable.from([Buffer.from("hel"), Buffer.from("lo")]),
    };
    for (const [kind, body] of Object.entries(bodies)) {
      const path = `${user.id}/${kind} 1.txt`;
      const options = { contentType: "text/plain", metadata: { kind } };
      const stored = ok(await bucket.upload(path, body, options));
      assert.equal(stored.fullPath, `mixes/${path}`);
      assert.match(stored.id, /^[0-9a-f-]{36}$/);
      assert.equal(await ok(await bucket.download(path)).text(), "hello");
      const info = ok(await bucket.info(path));
      assert.deepEqual(info.metadata, { kind });
      assert.equal(info.contentType, "text/plain");
      assert.equal(info.cacheControl, "max-age=3600");
    }
  },

  async upload_again_needs_upsert() {
    const { bucket, user } = await newUser();
    const path = `${user.id}/a.txt`;
    ok(await bucket.upload(path, text("one")));
    denied(await bucket.upload(path, text("two")), "409", "KeyAlreadyExists");
    ok(await bucket.upload(path, text("two"), { upsert: true }));
    ok(await bucket.update(path, text("three")));
    assert.equal(await ok(await bucket.download(path)).text(), "three");
    const picture = new Blob(["x"], { type: "image/png" });
    denied(await bucket.upload(`${user.id}/a.png`, picture), "415", "InvalidMimeType");
    denied(await bucket.upload(`${user.id}/ä.txt`, text("x")), "400", "InvalidKey");
  },

  async signed_urls_open_files() {
    const { bucket, user } = await newUser();
    const path = `${user.id}/a b (1).txt`;
    ok(await bucket.upload(path, text("hello")));
    const download = "my file.txt";
    const { signedUrl } = ok(await bucket.createSignedUrl(path, 60, { download }));
    const answer = await fetch(signedUrl);
    assert.equal(await answer.text(), "hello");
    assert.match(answer.headers.get("content-disposition"), /filename=my%20file.txt/);
    const many = ok(await bucket.createSignedUrls([`${path}.no`, path], 60));
    assert.equal(many[0].signedUrl, null);
    assert.match(many[0].error, /does not exist or you do not have access/);
    assert.equal(await (await fetch(many[1].signedUrl)).text(), "hello");
    denied(await bucket.createSignedUrl(path, 0), "400", "InvalidRequest");
  },

  async signed_uploads_write_once() {
    const { bucket, user } = await newUser();
    const path = `${user.id}/up.txt`;
    const { token } = ok(await bucket.createSignedUploadUrl(path));
    const anon = newClient().storage.from("mixes");
    const stored = ok(await anon.uploadToSignedUrl(path, token, text("hello")));
    assert.equal(stored.fullPath, `mixes/${path}`);
    const again = await anon.uploadToSignedUrl(path, token, text("x"), { upsert: true });
    denied(again, "409", "KeyAlreadyExists");
    const replace = ok(await bucket.createSignedUploadUrl(path, { upsert: true }));
    ok(await anon.uploadToSignedUrl(path, replace.token, Buffer.from("new"), {
      contentType: "text/plain",
    }));
    assert.equal(await ok(await bucket.download(path)).text(), "new");
  },

  async list_move_copy_remove() {
    const { bucket, user } = await newUser();
    for (const name of ["a.txt", "sub/b.txt"]) {
      ok(await bucket.upload(`${user.id}/${name}`, text("x")));
    }
    const names = async () => ok(await bucket.list(user.id)).map((entry) => entry.name);
    assert.deepEqual(await names(), ["a.txt", "sub"]);
    const all = ok(await bucket.listV2({ prefix: `${user.id}/` }));
    assert.deepEqual(all.objects.map((entry) => entry.name), [
      `${user.id}/a.txt`,
      `${user.id}/sub/b.txt`,
    ]);
    ok(await bucket.move(`${user.id}/a.txt`, `${user.id}/c.txt`));
    ok(await bucket.copy(`${user.id}/c.txt`, `${user.id}/d.txt`));
    const gone = ok(await bucket.remove([`${user.id}/c.txt`, `${user.id}/no.txt`]));
    assert.deepEqual(gone.map((row) => row.name), [`${user.id}/c.txt`]);
    assert.deepEqual(await names(), ["d.txt", "sub"]);
    assert.equal((await bucket.exists(`${user.id}/d.txt`)).data, true);
    assert.equal((await bucket.exists(`${user.id}/c.txt`)).data, false);
  },

  async strangers_get_nothing() {
    const alice = await newUser();
    const bob = await newUser();
    const path = `${alice.user.id}/a.txt`;
    ok(await alice.bucket.upload(path, text("hello")));
    const anon = newClient().storage.from("mixes");
    for (const bucket of [bob.bucket, anon]) {
      denied(await bucket.createSignedUrl(path, 60), "404", "NoSuchKey");
      denied(await bucket.move(path, `${path}.2`), "404", "NoSuchKey");
      const { error } = await bucket.download(path);
      assert.ok(error);
      assert.equal(ok(await bucket.createSignedUrls([path], 60))[0].signedUrl, null);
      assert.deepEqual(ok(await bucket.list(alice.user.id)), []);
      assert.deepEqual(ok(await bucket.remove([path])), []);
      assert.equal((await bucket.exists(path)).data, false);
      denied(await bucket.upload(`${path}.2`, text("x")), "403", "AccessDenied");
      denied(await bucket.createSignedUploadUrl(`${path}.2`), "403", "AccessDenied");
    }
    assert.equal(await ok(await alice.bucket.download(path)).text(), "hello");
  },

  async secret_key_skips_the_policies() {
    const { user } = await newUser();
    const { storage } = newClient({ key: secret });
    const name = `js-${randomUUID()}`;
    ok(await storage.createBucket(name, { public: false, fileSizeLimit: "1MB" }));
    denied(await storage.createBucket(name), "409", "BucketAlreadyExists");
    assert.equal(ok(await storage.getBucket(name)).file_size_limit, 1_000_000);
    assert.ok(ok(await storage.listBuckets()).some((bucket) => bucket.name === name));
    ok(await storage.from(name).upload(`${user.id}/a.txt`, text("x")));
  },
};

const results = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    await scenario();
    results[name] = null;
  } catch (error) {
    results[name] = error.stack;
  }
}
console.log(JSON.stringify(results));
