// Ask for a generation: fields made from the model's own schema, the price before, the progress after.

import { get, post, upload } from "../api.js";
import { onAccount, refresh } from "../account.js";
import { field, h, select, show, whileBusy } from "../dom.js";
import { creditsOf, isLess, modelName, words } from "../format.js";
import { jobCard } from "../jobs.js";
import { explain } from "../messages.js";
import { failed, notice } from "../notices.js";
import { done, doubt, keep, kept } from "../pending.js";

const PICTURES = "image/jpeg,image/png,image/webp";
const PICTURE_BYTES_MAX = 10_485_760;
const ESTIMATE_AFTER = 250; // milliseconds without a change

export async function createView(main) {
  const catalogue = await get("/models");
  const { models } = catalogue;
  const feed = h("section", { class: "grid", "aria-label": "Your newest jobs" });
  const form = h("form", { class: "panel", noValidate: true });
  show(main, h("h1", { class: "hidden" }, "Create"), h("div", { class: "split" }, form, feed));
  if (!models.length) {
    show(form, h("p", {}, "No model can be used at the moment. Please come back later."));
    return undefined;
  }
  const stop = buildForm(form, catalogue, feed);
  const page = await get("/generations", { limit: 6 });
  for (const generation of page.generations) feed.append(jobCard(generation));
  if (!feed.children.length) feed.append(h("p", { class: "quiet empty-feed" }, "What you make appears here."));
  await resume(feed);
  return stop;
}

function buildForm(form, { models, generation_types: types, presets }, feed) {
  const model = select("model", models.map(({ id, kind }) => [id, `${modelName(id)} · ${kind}`]));
  const prompt = h("textarea", { name: "prompt", rows: 4, maxLength: 4000, required: true, placeholder: "A lighthouse in a storm, oil on canvas" });
  const type = select("generation_type", types.map(({ id, name }) => [id, name]));
  const looks = h("div", { class: "fields" });
  const fields = h("div", { class: "fields" });
  const price = h("output", { class: "price", "aria-live": "polite" });
  const send = h("button", { type: "submit", class: "wide" }, "Generate");
  const pictures = new Map(); // field name -> asset id of the chosen file
  let quote = null; // the price that is shown, and what it is the price of
  let owed = "0.000";
  let asking = 0;
  let timer;

  show(form, field("Model", model), field("Prompt", prompt), field("What is it for?", type), looks, fields, price, send);
  type.addEventListener("change", () => { drawLooks(); estimate(); });
  model.addEventListener("change", () => { drawFields(); estimate(); });
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(estimate, ESTIMATE_AFTER); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  drawLooks();
  drawFields();
  estimate();
  return onAccount((account) => { owed = account.owed; });

  function chosen() {
    return models.find(({ id }) => id === model.value);
  }

  /** The presets that fit what it is for. */
  function drawLooks() {
    const kinds = types.find(({ id }) => id === type.value).presets;
    show(looks, kinds.map((kind) => field(words(kind === "model" ? "person" : kind), select(`presets.${kind}`, [
      ["", "None"], ...presets.filter((preset) => preset.kind === kind).map(({ id, name }) => [id, name]),
    ]))));
  }

  function drawFields() {
    const m = chosen();
    pictures.clear();
    const pick = (name, label, values, text = String) => values.length > 0
      && field(label, select(name, values.map((value) => [value, text(value)])));
    show(fields,
      pick("ratio", "Ratio", m.ratios),
      pick("resolution", "Resolution", m.resolutions),
      pick("duration", "Length", m.durations, (seconds) => `${seconds} seconds`),
      pick("output_format", "Format", m.output_formats, (format) => format.toUpperCase()),
      m.audio && h("label", { class: "check" }, h("input", { type: "checkbox", name: "audio" }), " With sound"),
      m.input_images && picture("input_asset_ids", m.kind === "video" ? "First frame" : "Picture to start from"),
      m.last_frame && picture("last_frame_asset_id", "Last frame"),
      Object.entries(m.option_limits ?? {}).length > 0 && h("details", {},
        h("summary", {}, "More options"),
        Object.entries(m.option_limits).map(([name, limits]) => option(name, limits))));
  }

  function picture(name, label) {
    const input = h("input", { type: "file", name, accept: PICTURES });
    input.addEventListener("change", async () => {
      pictures.delete(name);
      const [file] = input.files;
      if (!file) return;
      if (file.size > PICTURE_BYTES_MAX) {
        input.value = "";
        notice("bad", "A picture may have 10 MB.", { id: "upload" });
        return;
      }
      input.disabled = send.disabled = true;
      try {
        const id = await upload(file);
        if (!input.isConnected) return; // another model was chosen meanwhile
        pictures.set(name, id);
        notice("good", "The picture is uploaded.", { id: "upload" });
      } catch (error) {
        input.value = "";
        failed(error);
      } finally {
        input.disabled = send.disabled = false;
        if (document.activeElement === document.body) input.focus(); // disabled, it lost it
        estimate();
      }
    });
    return field(label, input, "JPEG, PNG or WebP, up to 10 MB.");
  }

  function option(name, { type, minimum, maximum, allowed }) {
    const id = `options.${name}`;
    if (type === "boolean") return field(words(name), select(id, [["", "As usual"], ["true", "Yes"], ["false", "No"]]));
    if (type === "string") return field(words(name), select(id, [["", "As usual"], ...allowed.map((word) => [word, words(word)])]));
    const step = type === "integer" ? 1 : "any";
    return field(words(name), h("input", { type: "number", name: id, min: minimum, max: maximum, step, placeholder: "as usual" }), `${minimum} to ${maximum}`);
  }

  /** The request as the form says it, without what was left open. */
  function wish() {
    const m = chosen();
    const value = (name) => form.elements[name]?.value || undefined;
    const options = {};
    for (const [name, { type }] of Object.entries(m.option_limits ?? {})) {
      const text = value(`options.${name}`);
      if (text !== undefined) options[name] = type === "string" ? text : JSON.parse(text);
    }
    const looked = {};
    for (const { name, value: id } of looks.querySelectorAll("select")) if (id) looked[name.slice("presets.".length)] = id;
    const request = {
      model: m.id,
      generation_type: type.value,
      presets: Object.keys(looked).length ? looked : undefined,
      prompt: prompt.value.trim(),
      ratio: value("ratio"), resolution: value("resolution"), output_format: value("output_format"),
      duration: value("duration") && Number(value("duration")),
      audio: form.elements.audio?.checked || undefined,
      input_asset_ids: pictures.has("input_asset_ids") ? [pictures.get("input_asset_ids")] : undefined,
      last_frame_asset_id: pictures.get("last_frame_asset_id"),
      options: Object.keys(options).length ? options : undefined,
    };
    return JSON.parse(JSON.stringify(request));
  }

  /** Show the price of what the form says now. */
  async function estimate() {
    try {
      await priceOf(wish());
    } catch (error) {
      if (!error.code) throw error; // what went wrong stands where the price would
    }
  }

  /** Fetch and show the price of `request`; throws ApiError when it has none. */
  async function priceOf(request) {
    clearTimeout(timer);
    const turn = ++asking;
    const goods = goodsOf(request);
    const isCurrent = () => turn === asking;
    try {
      const { cost_credits: cost, available_credits: available } = await post("/estimates", { ...request, prompt: request.prompt || "-" }, "estimate");
      if (isCurrent()) {
        quote = { goods, cost };
        mark([]);
        showPrice(cost, available);
      }
      return cost;
    } catch (error) {
      if (isCurrent()) {
        quote = null;
        const { first } = mark(error.code === "invalid_request" ? error.fields.filter(({ field: name }) => name !== "prompt") : []);
        price.textContent = first ? "" : explain(error);
      }
      throw error;
    }
  }

  function showPrice(cost, available) {
    const short = isLess(available, cost);
    show(price,
      h("span", {}, "This costs "), h("strong", {}, creditsOf(cost)),
      short && h("span", { class: "owed" }, ` – you have ${creditsOf(available)}. `),
      short && owed !== "0.000" && h("span", {}, `You owe ${creditsOf(owed)}, from a payment that went back; the next credits pay that first. `),
      short && h("a", { href: "#/credits" }, "Get credits"));
  }

  /** Mark fields that the server did not accept; returns the first of them, and the problems that belong to no field here. */
  function mark(problems) {
    for (const old of form.querySelectorAll(".wrong")) old.remove();
    for (const control of form.querySelectorAll("[aria-invalid]")) {
      control.removeAttribute("aria-invalid");
      describe(control);
    }
    const marked = [];
    const unmarked = [];
    for (const problem of problems) {
      const control = form.elements.namedItem(problem.field) ?? form.elements.namedItem(problem.field.split(".")[0]);
      const box = control?.closest(".field, .check");
      if (!box) {
        unmarked.push(problem);
        continue;
      }
      const wrong = h("small", { class: "wrong", id: `${control.name}-wrong` }, problem.message);
      box.append(wrong);
      control.setAttribute("aria-invalid", "true");
      describe(control, wrong);
      control.closest("details")?.setAttribute("open", "");
      marked.push(control);
    }
    return { first: marked[0] ?? null, unmarked };
  }

  async function submit() {
    const request = wish();
    if (!request.prompt) {
      mark([{ field: "prompt", message: "Say what you want to see." }]).first.focus();
      return;
    }
    await whileBusy(send, "Starting …", async () => {
      try {
        const cost = quote?.goods === goodsOf(request) ? quote.cost : await priceOf(request);
        if (goodsOf(wish()) !== goodsOf(request)) {
          notice("info", "You changed it meanwhile. Look at the price and press again.", { id: "changed" });
          return;
        }
        const card = await start(keep({ ...request, max_cost_credits: cost }), feed);
        if (document.activeElement === send) card.focus();
      } catch (error) {
        let areMarked = false;
        if (error.code === "invalid_request") {
          const { first, unmarked } = mark(error.fields);
          (first ?? prompt).focus();
          areMarked = first !== null && !unmarked.length;
        }
        failed(error, { areMarked });
        if (error.code === "price_changed") await estimate();
      }
    });
  }
}

/** What a price depends on: everything but the prompt. */
function goodsOf(request) {
  return JSON.stringify({ ...request, prompt: undefined });
}

/** Let a control be described by its hint, and by what is wrong with it. */
function describe(control, wrong) {
  const hint = document.getElementById(`${control.id}-hint`);
  const ids = [hint, wrong].filter(Boolean).map(({ id }) => id).join(" ");
  if (ids) control.setAttribute("aria-describedby", ids);
  else control.removeAttribute("aria-describedby");
}

/** Ask for a generation and put its card in front, which is returned. Throws ApiError when there will be none. */
async function start(pending, feed) {
  let accepted;
  try {
    accepted = await post("/generations", pending.request, pending.key);
  } catch (error) {
    doubt(pending, error);
    throw error;
  }
  done(pending);
  const [generation] = await Promise.all([
    get(`/generations/${accepted.id}`),
    refresh({ moved: true, quiet: true }),
  ]);
  feed.querySelector(".empty-feed")?.remove();
  feed.querySelector(`[data-id="${accepted.id}"]`)?.remove();
  const card = jobCard(generation);
  feed.prepend(card);
  return card;
}

/** Take up a request whose answer a reload or a broken line kept from us. */
async function resume(feed) {
  const pending = kept();
  if (!pending) return;
  try {
    await start(pending, feed);
    notice("good", "We picked up your last request where it was left.", { id: "resumed" });
  } catch (error) {
    failed(error);
  }
}
