/** Polls the server once a second while the page is visible, and shows whether it answers. */

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
      const response = await fetch(url(), { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
      const body = await response.json().catch(() => ({}));
      if (response.ok) {
        goOn = take(body) !== false;
        showConnection(goOn ? "live" : "over", goOn ? "live" : "ended");
      } else {
        showConnection("lost", "no data");
        warn(body.error?.message ?? body.detail ?? `The server answers with HTTP status ${response.status}.`);
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
