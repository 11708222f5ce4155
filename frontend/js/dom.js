// Elements without innerHTML: text stays text, and the Content-Security-Policy needs no exception.

/** Make an element: `on*` are listeners, `class`, `data-*` and `aria-*` attributes, everything else properties. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || name === "role")
      element.setAttribute(name, value === true ? "" : value);
    else element[name] = value;
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace what `parent` holds. */
export function show(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

let serial = 0;
/** A labelled control; `hint` is read out with it. */
export function field(label, control, hint) {
  control.id ||= `f${++serial}`;
  const help = hint && h("small", { id: `${control.id}-hint`, class: "hint" }, hint);
  if (help) control.setAttribute("aria-describedby", help.id);
  return h("div", { class: "field", "data-field": control.name || null }, h("label", { htmlFor: control.id }, label), control, help);
}

/** A `<select>` of [value, text] pairs. */
export function select(name, options, props = {}) {
  return h("select", { name, ...props }, options.map(([value, text]) => h("option", { value }, text)));
}

/** Run `work` while `button` cannot be pressed again; the button says `busy` meanwhile. */
export async function whileBusy(button, busy, work) {
  if (button.hasAttribute("aria-disabled")) return undefined;
  const label = button.textContent;
  button.setAttribute("aria-disabled", "true"); // `disabled` would take the focus away
  button.setAttribute("aria-busy", "true");
  button.textContent = busy;
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-disabled");
    button.removeAttribute("aria-busy");
    button.textContent = label;
  }
}

/** Ask in a modal dialog; resolves to true or false. Escape says no. */
export function confirmed(question, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "ask", "aria-label": question },
      h("p", {}, question),
      h("form", { method: "dialog", class: "row" },
        h("button", { value: "no", class: "plain" }, "Keep it"),
        h("button", { value: "yes", class: "danger" }, yes)));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
