/** The monitor's overview: draws a snapshot of the system once a second. */

import { age, axis, bytes, clock, duration } from "/web/format.js";
import { draw, emptyState, figure, gauge, make, sessionLink, table, tile } from "/web/monitor/elements.js";
import { poll, warn } from "/web/monitor/poll.js";
import { PARTS, axisOf, segment, track } from "/web/monitor/waterfall.js";

const STATES = {
  ready: "ready",
  full: "all slots in use",
  behind: "falling behind",
  missing: "no ready worker",
  unknown: "unknown",
};
const OUTCOMES = { completed: "", interrupted: "interrupted", cancelled: "cancelled", failed: "failed" };

function show(data) {
  warn(data.refusal ? `New conversations are refused: ${data.refusal}.` : "");
  const { latency, sessions, broker } = data;
  draw("tiles", [latency.total, latency.turns, latency.slow, latency.failed, sessions.count, data.slow_ms], () => tiles(data));
  draw("stages", data.stages, stages);
  draw("latency", latency, () => latencyTable(latency, data.slow_ms));
  document.querySelector("#latency small").textContent = `until the first audio, over the last ${latency.turns === 1 ? "turn" : `${latency.turns} turns`}`;
  draw("turns", data.turns, (turns) =>
    turns.length ? turnList(turns, data.slow_ms) : emptyState("No turn has ended yet. Talk to Parley, and each turn appears here."),
  );
  document.querySelector("#slow small").textContent = `first audio after more than ${duration(data.slow_ms)}, slowest first`;
  draw("slow", [data.slow_turns, latency.turns], () => slowTurns(data));
  draw("sessions", sessions, sessionTable);
  draw("gpus", data.gpus, gpuTable);
  draw("broker", broker, brokerTable);
}

// -- summary -----------------------------------------------------------------------------------------

function tiles({ latency, sessions, slow_ms: slowMs }) {
  const { total, slow, failed, turns } = latency;
  const inTimePercent = total.n ? (100 * (total.n - slow)) / total.n : null;
  return [
    tile("First audio, p50", duration(total.p50_ms), total.p50_ms > slowMs),
    tile("First audio, p95", duration(total.p95_ms), total.p95_ms > slowMs),
    tile(`Within ${duration(slowMs)}`, inTimePercent === null ? "–" : `${inTimePercent.toFixed(inTimePercent < 100 && inTimePercent > 99 ? 1 : 0)} %`, inTimePercent !== null && inTimePercent < 95),
    tile("Failed turns", turns ? `${failed} of ${turns}` : "–", failed > 0),
    tile("Conversations here", String(sessions.count)),
  ];
}

// -- stages -----------------------------------------------------------------------------------------

function stages(list) {
  const rows = list.flatMap((stage) => [stageRow(stage), ...stage.workers.map((worker) => workerRow(worker, stage))]);
  return table("Stages and their workers", ["Stage", "State", "Slots in use", ">Queue age", ">Loop lag"], rows);
}

function stageRow(stage) {
  const head = make("th", { scope: "row" }, stage.stage, make("small", {}, stage.engine || "–"));
  const state = make("td", { class: `state ${stage.state}` }, STATES[stage.state] ?? stage.state);
  const age = stage.state === "unknown" ? "–" : duration(stage.queue_age_ms);
  return make("tr", { class: "stage-row" }, head, state, slots(stage.slots - stage.free, stage.slots), figure(age), figure(""));
}

function workerRow(worker, { workers }) {
  const name = make("th", { scope: "row" }, worker.worker);
  const lag = worker.loop_lag_ms === null ? "–" : duration(worker.loop_lag_ms);
  return make("tr", { class: "worker-row" }, name, make("td"), workers.length > 1 ? slots(worker.in_hand, worker.slots) : make("td"), figure(""), figure(lag));
}

function slots(used, all) {
  if (!all) return make("td", { class: "slots" }, "–");
  return make("td", { class: "slots" }, gauge(used / all, `${used} of ${all} slots in use`), ` ${used} of ${all}`);
}

// -- latency ----------------------------------------------------------------------------------------

function latencyTable({ total, segments }, slowMs) {
  if (!total.n) return emptyState("No latency to show yet: no spoken turn has had a reply with audio.");
  const end = axis(Math.max(...segments.map((part) => part.p95_ms ?? 0)));
  const rows = segments.map((part) => {
    const { p50_ms: p50, p95_ms: p95 } = part;
    const bars = p50 === null ? [] : [
      segment({ name: `${part.name} tail`, begin_ms: 0, end_ms: p95 }, end),
      segment({ name: part.name, begin_ms: 0, end_ms: p50 }, end),
    ]; // prettier-ignore
    const drawing = make("td", { class: "drawing", "aria-hidden": "true" }, make("span", { class: "track" }, ...bars));
    const head = make("th", { scope: "row", class: `stage ${part.name}` }, PARTS.get(part.name), make("small", {}, part.stage));
    return make("tr", {}, head, drawing, figure(duration(p50)), figure(duration(p95)));
  });
  const sum = make("tr", { class: "sum" }, make("th", { scope: "row" }, "First audio"), make("td", { class: "drawing" }),
    figure(duration(total.p50_ms)), figure(duration(total.p95_ms), { class: total.p95_ms > slowMs ? "figure bad" : "figure" })); // prettier-ignore
  const note = make("p", { class: "note" }, "The stages already work during the silence before the endpoint, so the parts overlap and do not add up to the total.");
  return [table("Latency by part", ["Part", "", ">p50", ">p95"], [...rows, sum]), note];
}

// -- turns ------------------------------------------------------------------------------------------

function turnList(turns, slowMs) {
  const end = axisOf(turns, slowMs);
  return make("ol", { class: "turn-list" }, ...turns.map((turn) => turnRow(turn, end, slowMs)));
}

function turnRow(turn, end, slowMs) {
  const outcome = OUTCOMES[turn.outcome] ?? turn.outcome;
  return make(
    "li",
    { class: `turn${turn.slow ? " slow" : ""}${turn.outcome === "failed" ? " failed" : ""}` },
    make("span", { class: "at" }, clock(turn.at_ms)),
    make("span", { class: "who" }, sessionLink(turn.session), ` #${turn.turn}`),
    track(turn, end, slowMs),
    make("span", { class: "total" }, turn.first_audio_ms === null ? "no audio" : duration(turn.first_audio_ms)),
    make("span", { class: "outcome" }, outcome),
  );
}

function slowTurns({ slow_turns: slow, slow_ms: slowMs, latency }) {
  if (slow.length) return turnList(slow, slowMs);
  return emptyState(latency.turns ? "No slow turn among the last turns." : "No turn has ended yet.");
}

function legend() {
  const keys = [...PARTS].map(([name, label]) => make("span", { class: `stage ${name}` }, label));
  document.getElementById("legend").replaceChildren(...keys, make("span", { class: "stage slow-mark" }, "threshold of a slow turn"));
}

// -- sessions, GPUs, broker -------------------------------------------------------------------------

function sessionTable({ count, newest }) {
  if (!count) return emptyState("No conversation is in progress on this edge.");
  const rows = newest.map((session) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, sessionLink(session.id)),
      make("td", {}, session.protocol),
      figure(age(session.seconds)),
      figure(String(session.turns)),
      figure(String(session.interrupted)),
    ),
  );
  const shown = table("Conversations on this edge", ["Session", "Protocol", ">Age", ">Turns", ">Interrupted"], rows);
  return count > newest.length ? [shown, emptyState(`${count - newest.length} older conversations are not listed.`)] : shown;
}

function gpuTable(gpus) {
  if (!gpus.length) return emptyState("No worker reports a GPU.");
  return gpus.map((gpu) => {
    const used = gpu.memory_used !== null && gpu.memory_total ? gpu.memory_used / gpu.memory_total : null;
    const busy = gpu.utilization === null ? "–" : `${Math.round(100 * gpu.utilization)} %`;
    const memory = `${bytes(gpu.memory_used)} of ${bytes(gpu.memory_total)}`;
    const held = gpu.workers.map(({ stage, worker, memory: own }) => `${stage} (${worker}) ${bytes(own)}`).join(", ");
    const facts = [
      ["Utilization", gauge(gpu.utilization ?? 0, `${busy} utilization`), busy],
      ["Memory", gauge(used ?? 0, memory), memory],
      ["Power", "", gpu.power_w === null ? "–" : `${Math.round(gpu.power_w)} W`],
      ["Temperature", "", gpu.temperature_c === null ? "–" : `${Math.round(gpu.temperature_c)} °C`],
      ["Workers", "", held],
    ];
    return make("div", { class: "gpu" }, make("h3", {}, `${gpu.name} · ${gpu.host}:${gpu.index}`), list(facts));
  });
}

function brokerTable(broker) {
  if (!broker) return emptyState("The broker is not reachable, or its first report has not arrived yet.");
  const share = broker.memory_limit_bytes ? broker.memory_bytes / broker.memory_limit_bytes : 0;
  const memory = `${bytes(broker.memory_bytes)} of ${bytes(broker.memory_limit_bytes)}`;
  const dead = broker.streams.filter(({ name, length }) => name.startsWith("dead:") && length);
  const jobs = broker.streams.filter(({ name }) => !name.startsWith("dead:"));
  const waiting = jobs.map(({ name, lag }) => `${name.replace("jobs:", "")}\u00a0${lag ?? "?"}`).join(" · ");
  const stalledS = Math.max(0, ...jobs.map((stream) => stream.oldest_pending_s));
  const facts = [
    ["Server", "", broker.server],
    ["Memory", gauge(share, memory), memory],
    ["Clients", "", String(broker.clients)],
    ["Commands", "", `${broker.commands_per_s} per second`],
    ["Keys", "", String(broker.keys)],
    ["Queued work", "", waiting],
    ["Oldest unrenewed lease", "", stalledS ? duration(1000 * stalledS) : "none"],
    ["Dead letters", "", dead.map(({ name, length }) => `${name} ${length}`).join(", ") || "none"],
  ];
  return list(facts);
}

function list(facts) {
  const entries = facts.map(([name, bar, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, bar, ` ${text}`)));
  return make("dl", {}, ...entries);
}

legend();
window.monitor = { snapshots: 0 };
poll(
  () => "/monitor/data",
  (data) => {
    show(data);
    window.monitor.snapshots += 1;
  },
);
