// What the page knows of the box, and what it remembers of the person: language and colours.

import * as api from "./api.js";
import { useTexts } from "./dom.js";

export { api };

export const state = {
  texts: {},
  session: null,
  /** By name, as the box last told. */
  cameras: new Map(),
  /** {name, labels: [{label, shots}]} */
  prompts: [],
  /** The name of the one that is taught. */
  prompt: null,
};

function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A browser that keeps nothing: it holds until the page is closed.
  }
}

let theme = remembered("theme") || "auto";
let language = null;

export function themeChosen() {
  return theme;
}

export function chooseTheme(name) {
  theme = name;
  remember("theme", name);
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

export function languageChosen() {
  return language;
}

/** Null: as remembered, else as the browser is set. */
export function chooseLanguage(name) {
  if (name) remember("language", name);
  const wanted = [name, remembered("language"), state.session?.language, ...(navigator.languages || [])];
  const known = wanted.filter(Boolean).map((tag) => tag.slice(0, 2)).find((tag) => state.texts[tag]);
  language = known || "en";
  useTexts(state.texts, language);
}

/** Asks the box for everything that all views need. */
export async function load() {
  state.session = await api.get(api.path("session")).catch((error) => {
    if (error.status === 401 || error.status === 0) throw error;
    return null;
  });
  chooseLanguage(null);
  await Promise.all([loadCameras(), loadPrompts()]);
}

export async function loadCameras() {
  const cameras = api.list(await api.get(api.path("cameras")), "cameras");
  state.cameras = new Map(cameras.map((camera) => [camera.name, camera]));
  return state.cameras;
}

export async function loadPrompts() {
  state.prompts = api.list(await api.get(api.path("prompts")), "prompts");
  // One that is being taught stays, whatever becomes of it elsewhere.
  state.prompt ??= state.prompts[0]?.name ?? firstOfCameras();
  return state.prompts;
}

function firstOfCameras() {
  for (const camera of state.cameras.values()) {
    for (const region of camera.regions || []) if (region.prompt) return region.prompt;
  }
  return null;
}

/** The labels of a prompt with the number of their shots. */
export function labelsOf(name) {
  return state.prompts.find((prompt) => prompt.name === name)?.labels ?? [];
}

/** What the address asks for: `#/view/part/part`. */
export function here() {
  const [view, ...parts] = location.hash.replace(/^#\/?/, "").split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { view: view || "live", parts };
}

/** Makes `name` the prompt that is taught, if the address names one. */
export function usePrompt(name) {
  if (name) state.prompt = name;
  return state.prompt;
}

/** Cameras and regions that a prompt looks at: [{camera, region}]. */
export function placesOf(prompt) {
  const found = [];
  for (const camera of state.cameras.values()) {
    for (const region of camera.regions || []) {
      if (region.prompt === prompt) found.push({ camera: camera.name, region });
    }
  }
  return found;
}

/** The key of the label in a place: 1 to 9, then letters that nothing else uses. */
const KEYS = "123456789bcefghijklmnopqrstvwxyz";

export function keyOf(place) {
  return KEYS[place] ?? "";
}

/** The place of the label that a key press means; -1 where it means none. */
export function placeOf(event) {
  const digit = /^Digit(\d)$/.exec(event.code);
  const key = digit ? digit[1] : event.key.toLowerCase();
  return key.length === 1 ? KEYS.indexOf(key) : -1;
}
