// Elements, texts and numbers. Whatever people or cameras call things becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function build(element, properties, children) {
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "place") Object.assign(element.style, value);
    else if (key === "value" || key === "checked" || key === "disabled") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** An element: `h("button", {class: "main", onclick}, "Keep")`. Strings become text. */
export function h(tag, properties, ...children) {
  return build(document.createElement(tag), properties, children);
}

/** An element of a drawing. */
export function s(tag, properties, ...children) {
  return build(document.createElementNS(SVG, tag), properties, children);
}

const PATHS = {
  live: "M3 7a2 2 0 0 1 2-2h9a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2zM16 10l5-3v10l-5-3",
  teach: "M4 12V5a1 1 0 0 1 1-1h7l8 8-8 8zM8.5 8.5h.01",
  train: "M4 18l5-6 4 3 7-9M15 6h5v5",
  menu: "M4 7h16M4 12h16M4 17h16",
  undo: "M9 7L4 12l5 5M4 12h10a6 6 0 0 1 6 6",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  region: "M4 8V5a1 1 0 0 1 1-1h3M16 4h3a1 1 0 0 1 1 1v3M20 16v3a1 1 0 0 1-1 1h-3M8 20H5a1 1 0 0 1-1-1v-3",
  upload: "M12 16V5M7 10l5-5 5 5M5 19h14",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5h.01",
  edit: "M4 20h4L19 9l-4-4L4 16z",
};

export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}

/** A button; `kind` is its classes. */
export function button(text, onclick, kind = "", symbol = null) {
  return h("button", { type: "button", class: kind, onclick }, symbol && icon(symbol), h("span", {}, text));
}

let texts = {};
let language = "en";

export function useTexts(all, chosen) {
  language = all[chosen] ? chosen : "en";
  texts = { ...all.en, ...all[language] };
  patterns = null;
  document.documentElement.lang = language;
}

export function currentLanguage() {
  return language;
}

/** The text of `key` with its {places} filled in; one with "one" and "other" is chosen by `count`. */
export function t(key, places = {}) {
  let text = texts[key];
  if (text === undefined) return key;
  if (typeof text === "object") {
    const rule = new Intl.PluralRules(language).select(Number(places.count ?? 0));
    text = text[rule] ?? text.other;
  }
  return text.replace(/\{(\w+)\}/g, (whole, name) => (places[name] === undefined ? whole : String(places[name])));
}

/** The part of a sentence's pattern that `part` of it is: what is in braces stands for anything. */
function pattern(part) {
  const place = /^\{(\w+)\}$/.exec(part);
  return place ? `(?<${place[1]}>.*?)` : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

let patterns = null;

/** A sentence that the box wrote, which writes English, in the language of the page where it is one of those in `said`, or one of
    the operating system in `system`. */
export function said(sentence) {
  patterns ??= Object.entries({ ...texts.said, ...texts.system }).map(([theirs, ours]) => [new RegExp(`^${theirs.split(/(\{\w+\})/).map(pattern).join("")}$`, "s"), ours]);
  for (const [theirs, ours] of patterns) {
    const found = theirs.exec(sentence);
    if (!found) continue;
    // Why something is so is a sentence itself; names stay what people have called things.
    return ours.replace(/\{(\w+)\}/g, (whole, place) => {
      const value = found.groups?.[place] ?? whole;
      return ["why", "what", "wanted", "cause"].includes(place) ? said(value) : value;
    });
  }
  return sentence;
}

/** Whether the box gave one of the labels. */
export function isKnown(label) {
  return label !== null && label !== undefined && label !== "unknown";
}

/** A label as the box gives it, or that it is none of them. */
export function shown(label) {
  return isKnown(label) ? label : t("unknown");
}

/** A share of 1 as per cent. */
export function percent(share, digits = 0) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const format = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits, minimumFractionDigits: digits });
  return format.format(share);
}

/** A share of 1 as points with a sign. */
export function points(share) {
  return new Intl.NumberFormat(language, { signDisplay: "exceptZero", maximumFractionDigits: 0 }).format(100 * share);
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

/** Times come in seconds since 1970 or as text. */
export function dateOf(at) {
  if (at === null || at === undefined) return null;
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** The time of today's, with the date for earlier ones. */
export function clock(at) {
  const date = dateOf(at);
  if (!date) return "";
  const today = date.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", second: today ? "2-digit" : undefined };
  const day = today ? {} : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(language, { ...day, ...time }).format(date);
}

/** Says something for a few seconds; failures stay for longer. */
export function toast(text, kind = "", action = null) {
  const close = () => box.remove();
  const box = h(
    "div",
    { class: `toast ${kind}` },
    h("span", {}, text),
    action && button(action.text, () => { close(); action.run(); }, "quiet"),
    h("button", { type: "button", class: "quiet round", "aria-label": t("close"), onclick: close }, icon("close")),
  );
  box.since = Date.now();
  const toasts = document.getElementById("toasts");
  toasts.append(box);
  while (toasts.childElementCount > 3) toasts.firstChild.remove();
  setTimeout(close, kind === "failed" ? 12000 : 5000);
}

/** Takes away what was said before the last act: it is about another view. */
export function clearToasts() {
  for (const box of [...document.getElementById("toasts").children]) {
    if (Date.now() - box.since > 1000 && !box.classList.contains("failed")) box.remove();
  }
}

/** Runs `work` and tells its failure. */
export async function tried(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, "failed");
    return undefined;
  }
}

/** A dialog with a form; resolves with what `read` gives, or nothing if it was closed. Where there is `work` to be done with that, it
    stays open until it is done, and says what is wrong: what was typed is not lost. */
export function ask({ title, content, ok, read, work, danger = false }) {
  return new Promise((resolve) => {
    let answer;
    const box = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => { box.remove(); resolve(answer); } });
    const wrong = h("p", { class: "note failed", role: "alert", hidden: true });
    const submit = async (event) => {
      const given = read ? read(form) : true;
      if (!work) {
        answer = given;
        return;
      }
      event.preventDefault();
      const go = form.querySelector("button[type=submit]");
      if (go.disabled) return;
      go.disabled = true;
      try {
        await work(given);
        answer = given;
        box.close();
      } catch (error) {
        wrong.textContent = error.message;
        wrong.hidden = false;
      } finally {
        go.disabled = false;
      }
    };
    const form = h(
      "form",
      { method: "dialog", onsubmit: submit },
      h("h2", { id: "dialog-title" }, title),
      content,
      wrong,
      h(
        "div",
        { class: "row end" },
        h("button", { type: "button", class: "quiet", onclick: () => box.close() }, t("cancel")),
        h("button", { type: "submit", class: danger ? "danger" : "main" }, ok),
      ),
    );
    box.append(form);
    document.body.append(box);
    box.showModal();
    const first = form.querySelector("input, select, textarea");
    if (first) first.focus();
  });
}

let fields = 0;

/** A labelled control, with a word of help below it. */
export function field(label, control, hint = null) {
  const id = `field-${++fields}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    control,
    hint && h("p", { class: "soft small", id: `${id}-hint` }, hint),
  );
}

/** A choice; `options` are [value, text]. */
export function choice(options, selected, onchange) {
  const control = h("select", { onchange: () => onchange && onchange(control.value) });
  for (const [value, text] of options) {
    control.append(h("option", { value, selected: value === selected }, text));
  }
  control.value = selected;
  return control;
}

/** Nothing here yet: what it is, and what to do. */
export function empty(title, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", { class: "soft" }, text), h("div", { class: "row middle" }, actions));
}

/** Whether a key press is meant for a control that takes text. */
export function typing(event) {
  const target = event.target;
  return event.ctrlKey || event.metaKey || event.altKey || !!target.closest?.("input:not([type=checkbox]), textarea, select, dialog");
}
