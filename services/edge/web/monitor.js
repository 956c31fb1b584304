/** The monitor: draws one snapshot of the system a second. */

import {
  PARTS, age, axisOf, bytes, clock, draw, duration, figure, gauge, make, nothing, poll, segment, sessionLink,
  table, track, warn,
} from "/web/monitor_parts.js"; // prettier-ignore
import { axis } from "/web/waterfall.js";

const STATES = {
  ready: "ready",
  full: "all slots taken",
  behind: "behind",
  missing: "no worker",
  unknown: "not known",
};
const OUTCOMES = { completed: "", interrupted: "interrupted", cancelled: "cancelled", failed: "failed" };

function show(data) {
  warn(data.refusal ? `New conversations are refused: ${data.refusal}.` : "");
  const { latency, sessions, broker } = data;
  draw("tiles", [latency.total, latency.turns, latency.slow, latency.failed, sessions.count, data.slow_ms], () => tiles(data));
  draw("stages", data.stages, stages);
  draw("latency", latency, () => latencyTable(latency, data.slow_ms));
  document.querySelector("#latency small").textContent = `to the first audio, over the last ${latency.turns === 1 ? "turn" : `${latency.turns} turns`}`;
  draw("turns", data.turns, (turns) =>
    turns.length ? turnList(turns, data.slow_ms) : nothing("No turn is over yet. Talk to Parley, and each turn appears here."),
  );
  document.querySelector("#slow small").textContent = `first audio after more than ${duration(data.slow_ms)}, slowest first`;
  draw("slow", [data.slow_turns, latency.turns], () => slowTurns(data));
  draw("sessions", sessions, sessionTable);
  draw("gpus", data.gpus, gpuTable);
  draw("broker", broker, brokerTable);
}

// -- at a glance ------------------------------------------------------------------------------------

function tiles({ latency, sessions, slow_ms: slowMs }) {
  const { total, slow, failed, turns } = latency;
  const inTime = total.n ? (100 * (total.n - slow)) / total.n : null;
  return [
    tile("First audio, p50", duration(total.p50_ms), total.p50_ms > slowMs),
    tile("First audio, p95", duration(total.p95_ms), total.p95_ms > slowMs),
    tile(`Within ${duration(slowMs)}`, inTime === null ? "–" : `${inTime.toFixed(inTime < 100 && inTime > 99 ? 1 : 0)} %`, inTime !== null && inTime < 95),
    tile("Failed turns", turns ? `${failed} of ${turns}` : "–", failed > 0),
    tile("Conversations here", String(sessions.count)),
  ];
}

function tile(label, value, bad = false) {
  return make("div", { class: bad ? "tile bad" : "tile" }, make("span", { class: "label" }, label), make("span", { class: "value" }, value));
}

// -- stages -----------------------------------------------------------------------------------------

function stages(list) {
  const rows = list.flatMap((stage) => [stageRow(stage), ...stage.workers.map((worker) => workerRow(worker, stage))]);
  return table("Stages and their workers", ["Stage", "State", "Slots taken", ">Queue age", ">Loop lag"], rows);
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

function slots(taken, all) {
  if (!all) return make("td", { class: "slots" }, "–");
  return make("td", { class: "slots" }, gauge(taken / all, `${taken} of ${all} slots taken`), ` ${taken} of ${all}`);
}

// -- latency ----------------------------------------------------------------------------------------

function latencyTable({ total, segments }, slowMs) {
  if (!total.n) return nothing("Nothing was measured yet: no turn has had audio.");
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
  const note = make("p", { class: "note" }, "Work that is prepared during the silence runs beside the endpoint: the parts do not add up.");
  return [table("Latency of each part", ["Part", "", ">p50", ">p95"], [...rows, sum]), note];
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
  return nothing(latency.turns ? "None of the last turns was slow." : "No turn is over yet.");
}

function legend() {
  const keys = [...PARTS].map(([name, words]) => make("span", { class: `stage ${name}` }, words));
  document.getElementById("legend").replaceChildren(...keys, make("span", { class: "stage slow-mark" }, "slow from here"));
}

// -- who is there, and on what ------------------------------------------------------------------------

function sessionTable({ count, newest }) {
  if (!count) return nothing("Nobody is talking to this edge now.");
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
  return count > newest.length ? [shown, nothing(`and ${count - newest.length} that began earlier`)] : shown;
}

function gpuTable(gpus) {
  if (!gpus.length) return nothing("No worker reports a GPU.");
  return gpus.map((gpu) => {
    const used = gpu.memory_used !== null && gpu.memory_total ? gpu.memory_used / gpu.memory_total : null;
    const busy = gpu.utilization === null ? "–" : `${Math.round(100 * gpu.utilization)} %`;
    const memory = `${bytes(gpu.memory_used)} of ${bytes(gpu.memory_total)}`;
    const held = gpu.workers.map(({ stage, worker, memory: own }) => `${stage} (${worker}) ${bytes(own)}`).join(", ");
    const facts = [
      ["Busy", gauge(gpu.utilization ?? 0, `${busy} busy`), busy],
      ["Memory", gauge(used ?? 0, memory), memory],
      ["Power", "", gpu.power_w === null ? "–" : `${Math.round(gpu.power_w)} W`],
      ["Temperature", "", gpu.temperature_c === null ? "–" : `${Math.round(gpu.temperature_c)} °C`],
      ["Workers", "", held],
    ];
    return make("div", { class: "gpu" }, make("h3", {}, `${gpu.name} · ${gpu.host}:${gpu.index}`), list(facts));
  });
}

function brokerTable(broker) {
  if (!broker) return nothing("The broker is not reachable, or was not asked yet.");
  const share = broker.memory_limit_bytes ? broker.memory_bytes / broker.memory_limit_bytes : 0;
  const memory = `${bytes(broker.memory_bytes)} of ${bytes(broker.memory_limit_bytes)}`;
  const dead = broker.streams.filter(({ name, length }) => name.startsWith("dead:") && length);
  const jobs = broker.streams.filter(({ name }) => !name.startsWith("dead:"));
  const waiting = jobs.map(({ name, lag }) => `${name.replace("jobs:", "")}\u00a0${lag ?? "?"}`).join(" · ");
  const silent = Math.max(0, ...jobs.map((stream) => stream.oldest_pending_s));
  const facts = [
    ["Server", "", broker.server],
    ["Memory", gauge(share, memory), memory],
    ["Clients", "", String(broker.clients)],
    ["Commands", "", `${broker.commands_per_s} per second`],
    ["Keys", "", String(broker.keys)],
    ["Waiting work", "", waiting],
    ["Longest silence over work", "", silent ? duration(1000 * silent) : "none"],
    ["Set aside", "", dead.map(({ name, length }) => `${name} ${length}`).join(", ") || "nothing"],
  ];
  return list(facts);
}

function list(facts) {
  const entries = facts.map(([name, bar, words]) => make("div", {}, make("dt", {}, name), make("dd", {}, bar, ` ${words}`)));
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
