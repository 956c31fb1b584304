/** The monitor's page of one conversation: what was said and a waterfall for each turn, and the event log. */

import { age, clock, duration, exactClock } from "../format.js";
import { draw, emptyState, figure, make, table, tile } from "./elements.js";
import { poll, warn } from "./poll.js";
import { maskedNote } from "./search.js";
import { outcomeText, sentText, slowLimit, turnsAxis } from "./turns.js";
import { SEGMENTS, isPrepared, took, track, turnEnd } from "../waterfall.js";

const SHOWN_ROWS = 400;
/** Events that come many times in a turn; hidden unless the checkbox is set. */
const FREQUENT = new Set(["TranscriptPartial", "ReplyDelta", "VoiceChunk"]);

const id = decodeURIComponent(location.pathname.split("/").pop());
const turns = new Map();
let about = {}; // what each kind of event means
let rows = [];
let after = "-";
let ended = false;
const showAll = document.getElementById("show-all");

function take(data) {
  warn("");
  about = { ...about, ...data.about };
  for (const turn of data.turns) turns.set(turn.id, turn);
  if (data.log?.length) {
    after = data.log.at(-1).id;
    rows = [...rows, ...data.log].slice(-4 * SHOWN_ROWS);
    ended ||= data.log.some(({ type }) => type === "SessionEnded");
  }
  const newest = [...turns.values()].reverse();
  draw("tiles", [data.live, newest.length, ended], () => tiles(data, newest));
  draw("turns", newest, () => (newest.length ? cards(newest, data) : emptyState("No turn of this conversation has ended yet.")));
  drawLog(data);
  return Boolean(data.live) || data.log !== null;
}

function tiles({ live }, known) {
  const state = live ? "in progress" : ended ? "ended" : "not on this edge";
  const [last] = known;
  return [
    tile("Conversation", id.slice(0, 8), { title: id }),
    tile("State", state),
    tile("Protocol", live?.protocol ?? last?.protocol ?? "–"),
    tile("Age", live ? age(live.seconds) : "–"),
    tile("Turns", String(live?.turns ?? known.length)),
  ];
}

// -- turns ------------------------------------------------------------------------------------------

function cards(list, { slow_ms: slowMs, masked }) {
  const end = turnsAxis(list, slowMs);
  return [...(masked ? [maskedNote()] : []), ...list.map((turn) => card(turn, end, slowMs))];
}

function card(turn, end, slowMs) {
  const facts = [
    turn.spoken ? null : "not spoken",
    outcomeText(turn) || "completed",
    `${(turn.heard_ms / 1000).toFixed(1)} of ${(turn.reply_ms / 1000).toFixed(1)} s of the reply were heard`,
    turn.revision > 0 ? `spoken in ${turn.revision + 1} parts` : null,
    turn.route === "cascade" ? null : `answered from the audio (${turn.route})`,
    turn.trace ? `trace ${turn.trace}` : null,
    clock(turn.at_ms),
  ].filter(Boolean);
  const sent = turn.first_audio_ms === null ? "no audio" : `first audio sent after ${sentText(turn)}`;
  const head = make("h3", {}, `Turn ${turn.turn} · `, make("span", { class: turn.slow ? "bad" : "" }, sent));
  const said = [["said", "Person", turn.said], ["reply", "Parley", turn.reply]].filter(([, , text]) => text);
  const texts = said.map(([kind, who, text]) => make("p", { class: `said ${kind}` }, make("span", { class: "speaker" }, `${who}: `), text));
  const body = turn.segments.length ? waterfall(turn, end, slowMs) : emptyState("No times were recorded for this turn.");
  return make("article", { class: "turn-card" }, head, make("p", { class: "note" }, facts.join(" · ")), ...texts, body);
}

function waterfall({ turn, segments, spoken }, end, slowMs) {
  const limit = () => (spoken ? [slowLimit(slowMs, end)] : []);
  const headings = ["Step", "", [">took", "How long the step took"], [">done at", "When the step was done, since the end of speech"]];
  return table(`Waterfall of turn ${turn}`, headings, segments.map((part) => partRow(part, segments, end, limit())));
}

function partRow(part, segments, end, limit) {
  const { label, about: meaning } = SEGMENTS.get(part.name);
  const prepared = isPrepared(part, segments);
  const head = make("th", { scope: "row", class: `stage ${part.name}`, title: meaning }, label);
  const drawing = make("td", { class: "drawing", "aria-hidden": "true", title: prepared ? "prepared while the person was silent" : null });
  drawing.append(track([part], end, ...turnEnd(segments, end), ...limit));
  return make("tr", {}, head, drawing, figure(duration(took(part))), figure(duration(part.end_ms)));
}

// -- the log ----------------------------------------------------------------------------------------

function drawLog({ log, masked, log_kept_s: keptS, turns_kept_h: keptH }) {
  const wanted = showAll.checked ? rows : rows.filter(({ type }) => !FREQUENT.has(type));
  document.getElementById("log-note").textContent = `${masked ? "texts are masked (PARLEY_LOG_CONTENT=true shows them)" : "texts are shown"}; newest first`;
  draw("event-log", [wanted.at(-1)?.id, wanted.length, showAll.checked, log === null], () => {
    const gone = `This log has expired: the broker keeps it for ${keptS} s after the end of a conversation. The turns above are kept for ${keptH} h.`;
    if (!wanted.length) return emptyState(log === null ? gone : "No event has been logged yet.");
    const shown = table("Event log", [">Time", "Event", ">Turn", "Details"], wanted.slice(-SHOWN_ROWS).reverse().map(logRow));
    return log === null ? [emptyState(gone), shown] : shown;
  });
}

function logRow(row) {
  const at = make("time", { datetime: new Date(row.at_ms).toISOString() }, exactClock(row.at_ms));
  const turn = row.turn === null ? "" : row.revision > 0 ? `${row.turn}, part ${row.revision + 1}` : String(row.turn);
  const title = row.revision > 0 ? "The person paused, and went on: this is about the turn with all its parts so far" : null;
  const again = row.fence > 1 ? ` (attempt ${row.fence})` : "";
  return make("tr", { class: row.type === "StageFailed" || row.type === "unreadable" ? "bad" : null },
    make("td", { class: "figure" }, at), make("th", { scope: "row", title: about[row.type] }, row.type + again),
    figure(turn, { title }), make("td", { class: "fields" }, fieldsText(row.fields))); // prettier-ignore
}

function fieldsText(fields) {
  const valueText = (value) => (value !== null && typeof value === "object" ? `(${fieldsText(value)})` : value === "" ? "–" : value);
  return Object.entries(fields)
    .map(([name, value]) => `${name} ${valueText(value)}`)
    .join(", ");
}

document.title = `${id.slice(0, 8)} · Parley`;
let last = null;
showAll.addEventListener("change", () => last && drawLog(last));
window.monitor = { snapshots: 0 };
poll(
  () => `monitor/sessions/${encodeURIComponent(id)}/data?after=${after}`,
  (data) => {
    last = data;
    window.monitor.snapshots += 1;
    return take(data);
  },
);
