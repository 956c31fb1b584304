/** Draws turns: one line for each, with all segments in one track. */

import { clock, duration } from "../format.js";
import { make, sessionLink } from "./elements.js";
import { SEGMENTS, axisOf, describe, line, track, turnEnd } from "../waterfall.js";

const OUTCOMES = { completed: "", interrupted: "interrupted", cancelled: "cancelled", failed: "failed", empty: "no words" };

/** The end of an axis that all these turns and the threshold of a slow turn fit on, in ms. */
export const turnsAxis = (turns, slowMs) => axisOf(turns.flatMap(({ segments }) => segments), 1.1 * slowMs);

export const slowLimit = (slowMs, end) => line("limit", slowMs, end);

/** How a turn ended, and why it failed or was cut; nothing for one that was answered to its end. */
export const outcomeText = ({ outcome, reason }) => [OUTCOMES[outcome] ?? outcome, reason?.replaceAll("_", " ")].filter(Boolean).join(": ");

/** How long after the end of speech the first audio was sent; a typed turn has no speech. */
export const sentText = ({ first_audio_ms: ms }) => (ms === null ? "no audio" : duration(ms));

export function turnList(turns, slowMs) {
  const end = turnsAxis(turns, slowMs);
  return make("ol", { class: "turn-list" }, ...turns.map((turn) => turnRow(turn, end, slowMs)));
}

function turnRow(turn, end, slowMs) {
  const drawn = track(turn.segments, end, ...turnEnd(turn.segments, end), ...(turn.spoken ? [slowLimit(slowMs, end)] : []));
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", describe(turn.segments));
  return make(
    "li",
    { class: `turn${turn.slow ? " slow" : ""}${turn.outcome === "failed" ? " failed" : ""}` },
    make("span", { class: "at" }, clock(turn.at_ms)),
    make("span", { class: "who" }, sessionLink(turn.session), ` · turn ${turn.turn}`),
    drawn,
    make("span", { class: "total" }, sentText(turn)),
    make("span", { class: "outcome" }, [turn.spoken ? "" : "not spoken", outcomeText(turn)].filter(Boolean).join(" · ")),
  );
}

/** The colours of the segments, and what the lines mean. */
export function legend() {
  const keys = [...SEGMENTS].map(([name, { label, about }]) => make("span", { class: `stage ${name}`, title: about }, label));
  return [...keys, make("span", { class: "stage end-mark" }, "end of the turn"), make("span", { class: "stage slow-mark" }, "threshold of a slow turn")];
}
