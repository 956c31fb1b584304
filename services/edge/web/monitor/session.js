/** The monitor's page of one conversation: a waterfall for each turn, and the event log. */

import { age, clock, duration, exactClock } from "/web/format.js";
import { draw, emptyState, figure, make, table, tile } from "/web/monitor/elements.js";
import { poll, warn } from "/web/monitor/poll.js";
import { PARTS, axisOf, limit, segment, took } from "/web/monitor/waterfall.js";

const SHOWN_ROWS = 400;
/** Events that come many times in a turn; hidden unless the checkbox is set. */
const FREQUENT = new Set(["TranscriptPartial", "ReplyDelta", "VoiceChunk"]);

const id = decodeURIComponent(location.pathname.split("/").pop());
const turns = new Map();
let rows = [];
let after = "-";
let ended = false;
const showAll = document.getElementById("show-all");

function take(data) {
  warn("");
  for (const turn of data.turns) turns.set(turn.id, turn);
  if (data.log?.length) {
    after = data.log.at(-1).id;
    rows = [...rows, ...data.log].slice(-4 * SHOWN_ROWS);
    ended ||= data.log.some(({ type }) => type === "SessionEnded");
  }
  const newest = [...turns.values()].reverse();
  draw("tiles", [data.live, newest.length, ended], () => tiles(data, newest));
  draw("turns", newest, () => (newest.length ? cards(newest, data.slow_ms) : emptyState("No turn of this conversation has ended yet.")));
  drawLog(data);
  return Boolean(data.live) || data.log !== null;
}

function tiles({ live }, known) {
  const state = live ? "in progress" : ended ? "ended" : "not on this edge";
  const [last] = known;
  return [
    tile("Conversation", id.slice(0, 8)),
    tile("State", state),
    tile("Protocol", live?.protocol ?? last?.protocol ?? "–"),
    tile("Age", live ? age(live.seconds) : "–"),
    tile("Turns", String(live?.turns ?? known.length)),
  ];
}

// -- turns ------------------------------------------------------------------------------------------

function cards(list, slowMs) {
  const end = axisOf(list, slowMs);
  return list.map((turn) => card(turn, end, slowMs));
}

function card(turn, end, slowMs) {
  const facts = [
    turn.outcome,
    `heard ${(turn.heard_ms / 1000).toFixed(1)} of ${(turn.reply_ms / 1000).toFixed(1)} s`,
    turn.revision > 0 ? `revision ${turn.revision}` : null,
    turn.route === "cascade" ? null : turn.route,
    turn.trace ? `trace ${turn.trace}` : null,
    clock(turn.at_ms),
  ].filter(Boolean);
  const total = turn.first_audio_ms === null ? "no audio" : `first audio ${duration(turn.first_audio_ms)}`;
  const head = make("h3", {}, `Turn ${turn.turn} `, make("span", { class: turn.slow ? "bad" : "" }, total));
  const body = turn.segments.length
    ? table(`Waterfall of turn ${turn.turn}`, ["Part", "", ">duration", ">end"], turn.segments.map((part) => partRow(part, end, slowMs)))
    : emptyState("No times were recorded for this turn.");
  return make("article", { class: "turn-card" }, head, make("p", { class: "note" }, facts.join(" · ")), body);
}

function partRow(part, end, slowMs) {
  const head = make("th", { scope: "row", class: `stage ${part.name}` }, PARTS.get(part.name));
  const drawing = make("td", { class: "drawing", "aria-hidden": "true" });
  drawing.append(make("span", { class: "track" }, segment(part, end), limit(slowMs, end)));
  return make("tr", {}, head, drawing, figure(duration(took(part))), figure(duration(part.end_ms)));
}

// -- the log ----------------------------------------------------------------------------------------

function drawLog({ log, masked, log_kept_s: keptS }) {
  const wanted = showAll.checked ? rows : rows.filter(({ type }) => !FREQUENT.has(type));
  const note = masked ? "texts are masked" : "texts are shown";
  document.getElementById("log-note").textContent = `${note}; newest first`;
  draw("event-log", [wanted.at(-1)?.id, wanted.length, showAll.checked, log === null], () => {
    const gone = `This log has expired: the broker keeps it for ${keptS} s after the end of a conversation.`;
    if (!wanted.length) return emptyState(log === null ? gone : "No event has been logged yet.");
    const shown = table("Event log", [">Time", "Event", ">Turn", "Fields"], wanted.slice(-SHOWN_ROWS).reverse().map(logRow));
    return log === null ? [emptyState(gone), shown] : shown;
  });
}

function logRow(row) {
  const at = make("time", { datetime: new Date(row.at_ms).toISOString() }, exactClock(row.at_ms));
  const turn = row.turn === null ? "" : row.revision > 0 ? `${row.turn}.${row.revision}` : String(row.turn);
  const fence = row.fence > 1 ? ` (attempt ${row.fence})` : "";
  return make("tr", { class: row.type === "StageFailed" || row.type === "unreadable" ? "bad" : null },
    make("td", { class: "figure" }, at), make("th", { scope: "row" }, row.type + fence), figure(turn),
    make("td", { class: "fields" }, fieldsText(row.fields))); // prettier-ignore
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
  () => `/monitor/sessions/${encodeURIComponent(id)}/data?after=${after}`,
  (data) => {
    last = data;
    window.monitor.snapshots += 1;
    return take(data);
  },
);
