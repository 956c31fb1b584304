/** Draws where the time of a turn went. */

import { axis, duration } from "/web/format.js";
import { make } from "/web/monitor/elements.js";

/** The parts of a turn in order, with their labels. */
export const PARTS = new Map([
  ["endpoint", "Endpoint"],
  ["transcript", "Transcript"],
  ["first_token", "First token"],
  ["first_sentence", "First sentence"],
  ["first_audio", "First audio"],
  ["release", "Release"],
]);

/** The end of an axis that all these turns and the threshold of a slow turn fit on, in ms. */
export function axisOf(turns, slowMs) {
  return axis(Math.max(1.1 * slowMs, ...turns.flatMap(({ segments }) => segments.map((part) => part.end_ms))));
}

/** All parts of a turn in one track. Work that was done during the silence is drawn inside the endpoint bar. */
export function track(turn, end, slowMs) {
  const parts = turn.segments.map((part) => segment(part, end));
  return make("span", { class: "track", role: "img", "aria-label": describe(turn) }, ...parts, limit(slowMs, end));
}

export function segment({ name, begin_ms: begin, end_ms: until }, end) {
  const made = make("span", { class: `segment ${name}` });
  const start = Math.max(0, begin);
  made.style.left = `${(100 * start) / end}%`;
  made.style.width = `${(100 * Math.max(0, until - start)) / end}%`;
  return made;
}

/** The line at the threshold of a slow turn. */
export function limit(slowMs, end) {
  const made = make("span", { class: "limit" });
  made.style.left = `${(100 * slowMs) / end}%`;
  return made;
}

/** The duration of a part in ms. */
export const took = (part) => Math.max(0, part.end_ms - part.begin_ms);

function describe(turn) {
  const parts = turn.segments.map((part) => `${PARTS.get(part.name)} ${duration(took(part))}`);
  return parts.length ? parts.join(", ") : "no times recorded";
}
