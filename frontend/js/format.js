// How numbers, money and times are shown. Credits are decimal text and stay exact: they are never parsed to be computed with.

/** "9.120" -> "9.12", "10.000" -> "10" */
export function credits(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** "1 credit", "9.12 credits" */
export function creditsOf(text) {
  const short = credits(text);
  return `${short} ${short === "1" ? "credit" : "credits"}`;
}

/** Compare two decimal texts of at most 3 decimals. */
export function isLess(left, right) {
  return thousandths(left) < thousandths(right);
}

function thousandths(text) {
  const [whole, part = ""] = text.split(".");
  return BigInt(whole + part.padEnd(3, "0"));
}

/** A price in a currency's minor unit. */
export function money(minor, currency) {
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency: currency.toUpperCase() });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits).replace(/[.,]00(?=\D*$)/, "");
}

export function when(iso) {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function day(iso) {
  return new Date(iso).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** "bfl/flux-1.1-pro" -> "Flux 1.1 pro" */
export function modelName(id) {
  const name = id.slice(id.lastIndexOf("/") + 1).replaceAll("-", " ");
  return name[0].toUpperCase() + name.slice(1);
}

/** "enhance_prompt" -> "Enhance prompt" */
export function words(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
