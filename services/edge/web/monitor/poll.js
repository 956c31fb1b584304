/** Polls the server once a second while the page is visible, and shows whether it answers. */

import { ask } from "../server.js";

const EVERY_MS = 1000;
const TIMEOUT_MS = 5000;

/**
 * Requests `url()` once a second while the page is visible; returns when `take(body)` returns false or the server
 * answers with a client error (4xx). `take` shows problems with `warn`.
 */
export async function poll(url, take) {
  for (;;) {
    await visible();
    let goOn = true;
    try {
      const { response, body } = await request(url());
      if (response.ok) {
        goOn = take(body) !== false;
        showConnection(goOn ? "live" : "over", goOn ? "live" : "ended");
      } else {
        showConnection("lost", "no data");
        warn(problem(response, body));
        goOn = response.status >= 500;
      }
    } catch {
      showConnection("lost", "no answer");
      warn("The server does not answer. The figures below are the last that it sent.");
    }
    if (!goOn) return;
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

/** One answer of the monitor: the HTTP response and its JSON. Throws if there is no answer. */
export async function request(path) {
  const response = await ask(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  return { response, body: await response.json().catch(() => ({})) };
}

/** Why the server refused. */
export const problem = (response, body) => body.error?.message ?? body.detail ?? `The server answers with HTTP status ${response.status}.`;

/** Shows a warning above all cards; an empty text hides it. */
export function warn(text) {
  const line = document.getElementById("warning");
  setText(line, text);
  line.hidden = !text;
}

function showConnection(state, text) {
  const line = document.getElementById("connection");
  line.className = state;
  setText(line, text);
}

/** Both lines are live regions: a screen reader would repeat a text that is set again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function visible() {
  if (!document.hidden) return null;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true })).then(visible);
}
