/** The waterfall of a turn, the same on the page and in the monitor: bars on one time axis that begins at the end of speech. */

import { axis, duration } from "./format.js";

/** The segments of a turn by name, in order. shared/protocol/turn_record.py has the same list. */
export const SEGMENTS = new Map(
  [
    ["endpoint", "Endpoint", "silence until the turn counted as over"],
    ["transcript", "Transcript", "until the words were recognised"],
    ["first_token", "First token", "until the chat model began"],
    ["first_sentence", "First sentence", "until the first clause was complete"],
    ["first_audio", "First audio", "until the voice made the first audio"],
    ["release", "Sending", "from first audio and endpoint to sending"],
    ["played", "Playback", "network, buffer and loudspeaker"],
  ].map(([name, label, about]) => [name, { label, about }]),
);

/** The duration of a segment in ms. */
export const took = (part) => Math.max(0, part.end_ms - part.begin_ms);

/** The end of a time axis that all these segments fit on, and the point `also`; in ms. */
export const axisOf = (segments, also = 0) => axis(Math.max(also, ...segments.map((part) => part.end_ms)));

/** Whether a segment was over before the turn was: the work was done while the person was silent. */
export function isPrepared({ name, end_ms: end }, segments) {
  const endpoint = segments.find((part) => part.name === "endpoint");
  return Boolean(endpoint) && name !== "endpoint" && end <= endpoint.end_ms;
}

/** The bars of these segments on an axis that ends at `end` ms, and lines over them. */
export function track(segments, end, ...lines) {
  const made = document.createElement("span");
  made.className = segments.length > 1 ? "track overlaid" : "track";
  made.append(...segments.map((part) => bar(part, end)), ...lines);
  return made;
}

/** One bar; `kind` is a class besides the segment's name. */
export function bar({ name, begin_ms: begin, end_ms: until }, end, kind = "") {
  const made = document.createElement("span");
  const start = Math.max(0, begin);
  made.className = `segment ${name} ${kind}`.trim();
  made.style.left = `${(100 * start) / end}%`;
  made.style.width = `${(100 * Math.max(0, until - start)) / end}%`;
  return made;
}

/** A vertical line at `ms`: `kind` is `turn-end` or `limit`. */
export function line(kind, ms, end) {
  const made = document.createElement("span");
  made.className = kind;
  made.style.left = `${(100 * ms) / end}%`;
  return made;
}

/** The line at which the turn was over; none for a turn without endpoint. */
export function turnEnd(segments, end) {
  const endpoint = segments.find(({ name }) => name === "endpoint");
  return endpoint ? [line("turn-end", endpoint.end_ms, end)] : [];
}

/** All segments in words, for a screen reader. */
export function describe(segments) {
  const words = segments.map((part) => {
    const when = isPrepared(part, segments) ? "prepared in the silence" : `until ${duration(part.end_ms)}`;
    return `${SEGMENTS.get(part.name).label} ${duration(took(part))}, ${when}`;
  });
  return words.length ? words.join("; ") : "no times recorded";
}
