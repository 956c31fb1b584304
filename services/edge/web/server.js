/**
 * The server of this page: its addresses, under whatever path a proxy has put it, and requests that carry a key where the
 * server asks for one. The key is kept for this tab only, and is never part of a URL.
 */

import { askForKey } from "./key_dialog.js";

const STORED = "parley.key";
/** The event of `window` when the person has given a key. */
export const KEY_GIVEN = "parley-key";
const UNAUTHORIZED = 401;
const ROOT = new URL("../", import.meta.url); // this file is web/server.js
let asking = null; // the answer that a dialog is to bring
let declined = false;

/** The address of a path of the server, without a slash at its beginning. */
export const addressOf = (path) => new URL(path, ROOT).href;

/**
 * `fetch` of a path of the server, with the key. Where the server asks for one, so is the person, once; `again`: also if they
 * gave none before.
 */
export async function ask(path, options = {}, { again = false } = {}) {
  if (again) declined = false;
  for (let { signal } = options; ; signal = null) { // a person takes longer than any time limit
    const used = key();
    const headers = used ? { ...options.headers, Authorization: `Bearer ${used}` } : options.headers;
    const response = await fetch(addressOf(path), { ...options, signal, headers });
    if (response.status !== UNAUTHORIZED) return response;
    if (used === key() && !(await obtain(await response.clone().json().catch(() => ({}))))) return response;
  }
}

/** A WebSocket to a path of the server. Browsers send no header with it, so the key is a subprotocol, as OpenAI has it. */
export function openSocket(path) {
  const address = addressOf(path).replace(/^http/, "ws");
  const used = key();
  return used ? new WebSocket(address, ["realtime", `openai-insecure-api-key.${used}`]) : new WebSocket(address);
}

/** Asks the person for a key, whatever asks for it at the same time. Returns whether there is one now. */
async function obtain({ error }) {
  if (declined) return false;
  const wrong = Boolean(key());
  asking ??= askForKey(wrong ? (error?.message ?? "") : "").finally(() => (asking = null));
  const given = await asking;
  if (given) keep(given);
  else declined = true;
  return Boolean(given);
}

let inMemory = null; // where the browser keeps nothing

function key() {
  try {
    return sessionStorage.getItem(STORED) ?? inMemory;
  } catch {
    return inMemory;
  }
}

function keep(given) {
  inMemory = given;
  queueMicrotask(() => window.dispatchEvent(new Event(KEY_GIVEN)));
  try {
    sessionStorage.setItem(STORED, given);
  } catch {
    // it holds until the page is left
  }
}
