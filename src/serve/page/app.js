// The page: who is here, what is shown, and what the box says meanwhile.

import { api, chooseLanguage, chooseTheme, here, languageChosen, load, state, themeChosen } from "./state.js";
import { ask, button, choice, clearToasts, field, h, icon, s, t, toast, tried } from "./dom.js";
import * as live from "./live.js";
import * as teach from "./teach.js";
import * as train from "./train.js";
import { advice, report, why } from "./advice.js";
import { recent, review } from "./gallery.js";

const VIEWS = {
  live: { tab: "live", show: live.show, keys: live.keys },
  teach: { tab: "teach", show: teach.show, keys: teach.keys },
  recent: { tab: "teach", show: recent.show, keys: recent.keys },
  review: { tab: "teach", show: review.show, keys: review.keys },
  train: { tab: "train", show: train.show },
  history: { tab: "train", show: train.showHistory },
  enough: { tab: "train", show: advice.show },
  report: { tab: "train", show: report.show },
  why: { tab: "teach", show: why.show },
};
const SUBTABS = {
  teach: ["teach", "recent", "review"],
  train: ["train", "enough", "history", "report"],
};

let view = null;
let leave = () => {};
const main = document.getElementById("main");

/** Shows what the address says. */
async function route() {
  const asked = here();
  const known = VIEWS[asked.view] ? asked.view : "live";
  leave();
  leave = () => {};
  clearToasts();
  view = VIEWS[known];
  closeDialogs();
  // Tabs and the choice of prompts are drawn before the view is.
  if (view.tab !== "live" && asked.parts[0]) state.prompt = asked.parts[0];
  drawTabs(view.tab);
  const page = h("div", { class: `view view-${known}` });
  main.replaceChildren(subtabs(view.tab, known), page);
  window.scrollTo(0, 0);
  document.title = `${t(`view_${known}`)} · edge-rlp`;
  let shown;
  try {
    shown = await view.show(page, asked.parts);
  } catch (error) {
    if (page.isConnected) failed(page, error);
    return;
  }
  // Somebody may have gone on meanwhile.
  if (!page.isConnected) {
    if (typeof shown === "function") shown();
    return;
  }
  if (typeof shown === "function") leave = shown;
}

/** What was asked is about the view before. */
function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

/** A view that could not be shown says so, and is tried again by hand or once the box is back. */
function failed(page, error) {
  page.replaceChildren(h("p", { class: "note failed", role: "alert" }, error.message), button(t("again"), route, "main"));
  leave = error.status === 0 ? api.listen("open", route) : () => {};
}

function subtabs(tab, known) {
  const names = SUBTABS[tab];
  if (!names) return h("div", {});
  const link = (name) => {
    const prompt = state.prompt ? `/${encodeURIComponent(state.prompt)}` : "";
    return h("a", { href: `#/${name}${prompt}`, "aria-current": name === known ? "page" : null }, t(`view_${name}`));
  };
  return h("div", { class: "subbar" }, h("nav", { class: "subtabs", "aria-label": t("parts_of", { view: t(`view_${tab}`) }) }, names.map(link)), promptChoice(known));
}

/** Which prompt is taught, where there are several. */
function promptChoice(known) {
  const names = new Set([...state.prompts.map((prompt) => prompt.name), state.prompt].filter(Boolean));
  if (names.size < 2) return null;
  const options = [...names].map((name) => [name, name]);
  const control = choice(options, state.prompt, (name) => {
    state.prompt = name;
    location.hash = `#/${known === "why" ? "teach" : known}/${encodeURIComponent(name)}`;
  });
  control.setAttribute("aria-label", t("prompt"));
  return h("div", { class: "which" }, control);
}

function drawTabs(current) {
  const tabs = document.getElementById("tabs");
  tabs.setAttribute("aria-label", t("views"));
  const prompt = state.prompt ? `/${encodeURIComponent(state.prompt)}` : "";
  const link = (name) =>
    h("a", { href: `#/${name}${name === "live" ? "" : prompt}`, "aria-current": name === current ? "page" : null }, icon(name), h("span", {}, t(`view_${name}`)));
  tabs.replaceChildren(link("live"), link("teach"), link("train"));
}

function drawBar() {
  const mark = s(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("rect", { width: 32, height: 32, rx: 8 }),
    s("path", { d: "M8 13V10a2 2 0 0 1 2-2h3M19 8h3a2 2 0 0 1 2 2v3M24 19v3a2 2 0 0 1-2 2h-3M13 24h-3a2 2 0 0 1-2-2v-3" }),
    s("circle", { cx: 16, cy: 16, r: 4 }),
  );
  document.getElementById("bar").replaceChildren(
    h("a", { class: "brand", href: "#/live" }, mark, h("span", {}, "edge-rlp")),
    h("p", { id: "lost", role: "status" }),
    h("button", { type: "button", class: "quiet round", "aria-label": t("settings"), onclick: settings }, icon("menu")),
  );
  const skip = document.getElementById("skip");
  skip.textContent = t("skip");
  // The address says which view is shown: this link must not change it.
  skip.onclick = (event) => {
    event.preventDefault();
    main.focus();
  };
}

function settings() {
  const languages = choice([["de", "Deutsch"], ["en", "English"]], languageChosen());
  const themes = choice(["auto", "light", "dark"].map((name) => [name, t(`theme_${name}`)]), themeChosen());
  const leaveBox = state.session?.password
    ? [button(t("sign_out"), async () => { await tried(() => api.remove(api.path("session"))); location.reload(); }, "quiet")]
    : [];
  const keys = ["keys_label", "keys_burst", "keys_undo", "keys_select", "keys_region"].map((key) => h("li", {}, t(key)));
  ask({
    title: t("settings"),
    content: h(
      "div",
      {},
      field(t("language"), languages),
      field(t("theme"), themes),
      h("details", {}, h("summary", {}, t("keys")), h("ul", { class: "plain small" }, keys)),
      leaveBox,
    ),
    ok: t("done"),
    read: () => ({ language: languages.value, theme: themes.value }),
  }).then((chosen) => {
    if (!chosen) return;
    chooseTheme(chosen.theme);
    chooseLanguage(chosen.language);
    drawBar();
    route();
  });
}

/** Asks for the password, until it is right. */
function signIn() {
  api.disconnect();
  closeDialogs();
  leave();
  leave = () => {};
  document.getElementById("tabs").replaceChildren();
  const password = h("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = h("p", { class: "note failed", role: "alert", hidden: true });
  const form = h(
    "form",
    {
      class: "card narrow",
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          await api.post(api.path("session"), { password: password.value });
          start();
        } catch (error) {
          wrong.textContent = error.message;
          wrong.hidden = false;
          password.select();
        }
      },
    },
    h("h1", {}, t("sign_in")),
    h("p", { class: "soft" }, t("sign_in_text")),
    field(t("password"), password),
    wrong,
    h("button", { type: "submit", class: "main wide" }, t("sign_in")),
  );
  main.replaceChildren(form);
  password.focus();
}

function connection(stands) {
  const lost = document.getElementById("lost");
  if (lost) lost.textContent = stands ? "" : t("connection_lost");
  document.documentElement.classList.toggle("offline", !stands);
}

async function start() {
  drawBar();
  try {
    await load();
  } catch (error) {
    if (error.status === 401) return signIn();
    connection(false);
    main.replaceChildren(h("p", { class: "note failed" }, error.message), button(t("again"), start, "main"));
    return undefined;
  }
  drawBar();
  api.connect(connection);
  return route();
}

async function begin() {
  const answer = await fetch("texts.json");
  state.texts = await answer.json();
  chooseLanguage(null);
  chooseTheme(themeChosen());
  api.onSignedOut(signIn);
  api.listen("training", (data) => {
    if (data.state === "judged" && !location.hash.startsWith("#/train")) {
      toast(t("training_done", { prompt: data.prompt }), "good", { text: t("look"), run: () => { location.hash = `#/train/${encodeURIComponent(data.prompt)}`; } });
    }
  });
  window.addEventListener("hashchange", route);
  document.addEventListener("keydown", (event) => view?.keys?.(event));
  await start();
}

// After the page has loaded: a picture that never ends would keep it loading for ever.
if (document.readyState === "complete") begin();
else window.addEventListener("load", begin);
