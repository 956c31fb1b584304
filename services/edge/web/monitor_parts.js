/** What both pages of the monitor are made of: asking the server, elements, the waterfall of a turn. */

import { axis, duration } from "/web/waterfall.js";

const EVERY_MS = 1000;
const ANSWER_MS = 5000;

/** The parts of a turn, in order: what is written of each. */
export const PARTS = new Map([
  ["endpoint", "Endpoint"],
  ["transcript", "Transcript"],
  ["first_token", "First token"],
  ["first_sentence", "First sentence"],
  ["first_audio", "First audio"],
  ["release", "Release"],
]);

/** An element with attributes and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * Asks each second while the page is seen, and not at all while it is hidden. `url()` is asked anew each time. `take`
 * gets each answer, says with `warn` whether something is wrong, and ends it all by returning false.
 */
export async function poll(url, take) {
  const standing = document.getElementById("standing");
  const say = (state, words) => {
    standing.className = state;
    if (standing.textContent !== words) standing.textContent = words;
  };
  for (;;) {
    await seen();
    let goOn = true;
    try {
      const response = await fetch(url(), { signal: AbortSignal.timeout(ANSWER_MS), cache: "no-store" });
      const body = await response.json().catch(() => ({}));
      if (response.ok) {
        goOn = take(body) !== false;
        say(goOn ? "live" : "over", goOn ? "live" : "over");
      } else {
        say("lost", "no figures");
        warn(body.error?.message ?? body.detail ?? `the server answers ${response.status}`);
        goOn = response.status >= 500;
      }
    } catch {
      say("lost", "no answer");
      warn("The server does not answer. What you see is what it said last.");
    }
    if (!goOn) return;
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

function seen() {
  if (!document.hidden) return null;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true })).then(seen);
}

/** What is wrong, above everything; empty: nothing is. */
export function warn(words) {
  const line = document.getElementById("warning");
  if (line.textContent !== words) line.textContent = words;
  line.hidden = !words;
}

const drawn = new Map();

/** Draws a part of the page anew if what it shows has changed; whoever was on a link of it stays there. */
export function draw(id, data, render) {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const place = document.querySelector(`#${id} .body`) ?? document.getElementById(id);
  const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  place.replaceChildren(...[render(data)].flat());
  if (focused) place.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

export const nothing = (words) => make("p", { class: "nothing" }, words);

/** A table; a heading that begins with ">" stands over figures. */
export function table(label, headings, rows) {
  const head = headings.map((text) =>
    make("th", { scope: "col", class: text.startsWith(">") ? "figure" : null }, text.replace(/^>/, "")),
  );
  const caption = make("caption", { class: "visually-hidden" }, label);
  return make("table", {}, caption, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

export const figure = (text, attributes = {}) => make("td", { class: "figure", ...attributes }, text);

/** A bar that is so full, 0 to 1. */
export function gauge(share, label) {
  const level = make("span", {});
  level.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return make("span", { class: share >= 0.9 ? "gauge high" : "gauge", role: "img", "aria-label": label }, level);
}

/** The time axis that holds all of these turns, and where a slow one begins. */
export function axisOf(turns, slowMs) {
  return axis(Math.max(1.1 * slowMs, ...turns.flatMap(({ segments }) => segments.map((part) => part.end_ms))));
}

/** All parts of a turn in one track: silence as its ground, and before it the work, some of which went on meanwhile. */
export function track(turn, end, slowMs) {
  const parts = turn.segments.map((part) => segment(part, end));
  return make("span", { class: "track", role: "img", "aria-label": inWords(turn) }, ...parts, limit(slowMs, end));
}

export function segment({ name, begin_ms: begin, end_ms: until }, end) {
  const made = make("span", { class: `segment ${name}` });
  const start = Math.max(0, begin);
  made.style.left = `${(100 * start) / end}%`;
  made.style.width = `${(100 * Math.max(0, until - start)) / end}%`;
  return made;
}

/** Where a turn begins to be slow. */
export function limit(slowMs, end) {
  const made = make("span", { class: "limit" });
  made.style.left = `${(100 * slowMs) / end}%`;
  return made;
}

export function inWords(turn) {
  const parts = turn.segments.map((part) => `${PARTS.get(part.name)} ${duration(took(part))}`);
  return parts.length ? parts.join(", ") : "no times are known";
}

export const took = (part) => Math.max(0, part.end_ms - part.begin_ms);

export const sessionLink = (id, words = id.slice(0, 8)) =>
  make("a", { href: `/monitor/sessions/${encodeURIComponent(id)}`, title: `Conversation ${id}` }, words);

/** Time of day where the person is. */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

/** The same to the millisecond. */
export const exactClock = (ms) => `${clock(ms)}.${String(ms % 1000).padStart(3, "0")}`;

/** 75 → "1:15", 3700 → "1:01:40". */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** 1536 → "1.5 KiB". */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  const size = count / 1024 ** power;
  return `${size.toFixed(power && size < 10 ? 1 : 0)} ${units[power]}`;
}

export { duration };
