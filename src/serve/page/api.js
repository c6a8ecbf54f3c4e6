// The interface of the box: requests, their failures as sentences, and events as they happen.

import { said, t } from "./dom.js";

const ROOT = "api/v1/";

export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The path of parts, each encoded: names may hold anything. */
export function path(...parts) {
  return ROOT + parts.map(encodeURIComponent).join("/");
}

/** `address` with the values of `query` that are there. */
export function query(address, values) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== "") search.set(key, value);
  }
  const text = search.toString();
  return text ? `${address}?${text}` : address;
}

let signedOut = () => {};

/** Called when the box asks for a password. */
export function onSignedOut(run) {
  signedOut = run;
}

async function request(method, address, body, signal) {
  const options = { method, signal, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body instanceof Blob) {
    options.body = body;
    options.headers["Content-Type"] = body.type || "application/octet-stream";
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(t("unreachable"), 0);
  }
  const isJson = /json/.test(response.headers.get("Content-Type") || "");
  const content = isJson ? await response.json().catch(() => null) : await response.text();
  if (response.ok) return content;
  if (response.status === 401 && !address.endsWith("/session")) signedOut();
  const sentence = isJson && content && (content.detail || content.title);
  throw new Failure(sentence ? said(sentence) : t("refused", { status: response.status }), response.status);
}

export const get = (address, signal) => request("GET", address, undefined, signal);
export const post = (address, body) => request("POST", address, body ?? {});
export const put = (address, body) => request("PUT", address, body);
export const patch = (address, body) => request("PATCH", address, body);
export const remove = (address) => request("DELETE", address);

/** A list, whether it comes bare or under a name. */
export function list(answer, key) {
  if (Array.isArray(answer)) return answer;
  return answer && Array.isArray(answer[key]) ? answer[key] : [];
}

// Events: one connection for the page, whoever listens.

const KINDS = ["named", "change", "camera", "training", "prompt", "shot", "recent"];
const listeners = new Map();
let source = null;
let lost = null;

/** Calls `run(data)` at each event of `kind`; returns how to end that. */
export function listen(kind, run) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(run);
  return () => listeners.get(kind).delete(run);
}

function tell(kind, data) {
  for (const run of listeners.get(kind) || []) run(data);
}

/** Opens the connection; `connection(true | false)` says whether it stands. */
export function connect(connection) {
  disconnect();
  source = new EventSource(path("events"));
  source.onopen = () => {
    connection(true);
    tell("open", null);
  };
  source.onerror = () => {
    connection(false);
    // A browser gives up for good on some answers: then it is for us to try again.
    if (source && source.readyState === EventSource.CLOSED && !lost) {
      lost = setTimeout(() => { lost = null; connect(connection); }, 4000);
    }
  };
  // The box could not wait for us: everything is asked anew.
  source.addEventListener("lost", () => tell("open", null));
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      tell(kind, data);
    });
  }
}

export function disconnect() {
  clearTimeout(lost);
  lost = null;
  if (source) source.close();
  source = null;
}
