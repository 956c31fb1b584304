/** The monitor's overview: draws a snapshot of the system once a second. */

import { age, bytes, duration } from "../format.js";
import { draw, emptyState, factList, figure, gauge, make, sessionLink, table, tile } from "./elements.js";
import { poll, warn } from "./poll.js";
import { connectSearch } from "./search.js";
import { legend, turnList } from "./turns.js";
import { SEGMENTS, axisOf, bar } from "../waterfall.js";

const STATES = {
  ready: "ready",
  full: "fully used",
  behind: "falling behind",
  missing: "no ready worker",
  unknown: "unknown",
};
const SENT = "From the end of speech until the first audio of the reply was sent";

function show(data) {
  warn(data.refusal ? `New conversations are refused: ${data.refusal}.` : "");
  const { latency, sessions, broker } = data;
  draw("tiles", [latency, sessions.count, data.slow_ms], () => tiles(data));
  draw("stages", data.stages, stages);
  draw("latency", latency, () => latencyTable(latency, data.slow_ms));
  document.querySelector("#latency small").textContent = `until the first audio is sent, over ${spokenTurns(latency.total.n)}`;
  draw("turns", data.turns, (turns) =>
    turns.length ? turnList(turns, data.slow_ms) : emptyState("No turn has ended yet. Talk to Parley, and each turn appears here."),
  );
  document.getElementById("slow").hidden = !data.slow_turns.length;
  document.querySelector("#slow small").textContent = `before those above; first audio after more than ${duration(data.slow_ms)}, slowest first`;
  draw("slow", data.slow_turns, (turns) => (turns.length ? turnList(turns, data.slow_ms) : []));
  draw("sessions", sessions, sessionTable);
  document.getElementById("gpus").hidden = !data.gpus.length;
  draw("gpus", data.gpus, (gpus) => gpus.map(gpuFacts));
  draw("broker", broker, brokerFacts);
}

const spokenTurns = (count) => (count === 1 ? "1 spoken turn" : `${count} spoken turns`);

/** The slow end of these figures: the p95, or the slowest turn where there are too few turns for a p95. */
const slowEnd = ({ p95_ms: p95 }) => (p95 === null ? ["slowest", "max_ms"] : ["p95", "p95_ms"]);

// -- summary -----------------------------------------------------------------------------------------

function tiles({ latency, sessions, slow_ms: slowMs }) {
  const { total, slow, failed, turns } = latency;
  const [name, key] = slowEnd(total);
  const title = `${SENT}; over ${spokenTurns(total.n)}. Typed turns and greetings do not count.`;
  const inTimePercent = total.n ? (100 * (total.n - slow)) / total.n : null;
  const inTime = inTimePercent === null ? "–" : `${inTimePercent.toFixed(inTimePercent < 100 && inTimePercent > 99 ? 1 : 0)} %`;
  return [
    tile("First audio sent, p50", duration(total.p50_ms), { bad: total.p50_ms > slowMs, title }),
    tile(`First audio sent, ${name}`, duration(total[key]), { bad: total[key] > slowMs, title }),
    tile(`Within ${duration(slowMs)}`, inTime, { bad: inTimePercent !== null && inTimePercent < 95, title }),
    tile("Failed turns", turns ? `${failed} of ${turns}` : "–", { bad: failed > 0, title: "Turns that got no reply, or only a part of one, because of an error" }),
    tile("Conversations now", String(sessions.count), { title: "On this edge: the process that serves this page" }),
  ];
}

// -- stages -----------------------------------------------------------------------------------------

function stages(list) {
  const rows = list.flatMap((stage) => [stageRow(stage), ...stage.workers.map((worker) => workerRow(worker, stage))]);
  const headings = [
    "Stage",
    "State",
    ["Jobs in progress", "Of the jobs that the workers can do at the same time"],
    [">Longest wait", "How long the oldest job has waited for a free worker"],
    [">Process delay", "How late the process does what is due (event loop lag). Above 100 ms it is overloaded"],
  ];
  return table("Stages and their workers", headings, rows);
}

function stageRow(stage) {
  const head = make("th", { scope: "row" }, stage.stage, make("small", {}, stage.engine || "–"));
  const state = make("td", { class: `state ${stage.state}` }, STATES[stage.state] ?? stage.state);
  const waited = stage.state === "unknown" ? "–" : duration(stage.queue_age_ms);
  return make("tr", { class: "stage-row" }, head, state, slots(stage.slots - stage.free, stage.slots), figure(waited), figure(""));
}

function workerRow(worker, { workers }) {
  const name = make("th", { scope: "row", title: "Host and process id of the worker" }, worker.worker);
  const lag = worker.loop_lag_ms === null ? "–" : duration(worker.loop_lag_ms);
  return make("tr", { class: "worker-row" }, name, make("td"), workers.length > 1 ? slots(worker.in_hand, worker.slots) : make("td"), figure(""), figure(lag));
}

function slots(used, all) {
  if (!all) return make("td", { class: "slots" }, "–");
  return make("td", { class: "slots" }, gauge(used / all, `${used} of ${all} jobs`), ` ${used} of ${all}`);
}

// -- latency ----------------------------------------------------------------------------------------

function latencyTable({ total, segments }, slowMs) {
  if (!total.n) return emptyState("No times to show yet: no spoken turn has had a reply with audio.");
  const [name, key] = slowEnd(total);
  const known = segments.filter((part) => part.n);
  const end = axisOf(known.map((part) => ({ end_ms: part[key] ?? part.p50_ms })));
  const rows = known.map((part) => {
    const { label, about } = SEGMENTS.get(part.name);
    const bars = [part[key] ?? part.p50_ms, part.p50_ms].map((ms, index) =>
      bar({ name: part.name, begin_ms: 0, end_ms: ms }, end, index ? "" : "tail"),
    );
    const drawing = make("td", { class: "drawing", "aria-hidden": "true" }, make("span", { class: "track" }, ...bars));
    const head = make("th", { scope: "row", class: `stage ${part.name}`, title: about }, label, make("small", {}, part.stage));
    return make("tr", {}, head, drawing, figure(duration(part.p50_ms)), figure(duration(part[key])));
  });
  const sum = make("tr", { class: "sum" }, make("th", { scope: "row", title: SENT }, "First audio sent"), make("td", { class: "drawing" }),
    figure(duration(total.p50_ms)), figure(duration(total[key]), { class: total[key] > slowMs ? "figure bad" : "figure" })); // prettier-ignore
  const note = make("p", { class: "note" }, "How long each step took. Steps overlap: replies are prepared while the person is still silent, so they do not add up.");
  return [table("Time of each step", ["Step", "", ">p50", `>${name}`], [...rows, sum]), note];
}

// -- conversations, GPUs, broker --------------------------------------------------------------------

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
  const headings = ["Conversation", "Protocol", ">Age", ">Turns", [">Interrupted", "Replies that the person interrupted"]];
  const shown = table("Conversations in progress", headings, rows);
  return count > newest.length ? [shown, emptyState(`${count - newest.length} older conversations are not listed.`)] : shown;
}

function gpuFacts(gpu) {
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
  return make("div", { class: "gpu" }, make("h3", {}, `${gpu.name} · ${gpu.host}:${gpu.index}`), factList(facts));
}

function brokerFacts(broker) {
  if (!broker) return emptyState("The broker is not reachable, or its first report has not arrived yet.");
  const share = broker.memory_limit_bytes ? broker.memory_bytes / broker.memory_limit_bytes : 0;
  const memory = `${bytes(broker.memory_bytes)} of ${bytes(broker.memory_limit_bytes)}`;
  const failed = broker.streams.filter(({ name, length }) => name.startsWith("dead:") && length);
  const jobs = broker.streams.filter(({ name }) => !name.startsWith("dead:"));
  const waiting = jobs.map(({ name, lag }) => `${name.replace("jobs:", "")}\u00a0${lag ?? "?"}`).join(" · ");
  const silentS = Math.max(0, ...jobs.map((stream) => stream.oldest_pending_s));
  return factList([
    ["Server", "", broker.server],
    ["Memory", gauge(share, memory), memory],
    ["Connections", "", String(broker.clients)],
    ["Load", "", `${broker.commands_per_s} commands per second`],
    ["Stored keys", "", String(broker.keys), "Keys in its database; each conversation has a few"],
    ["Jobs waiting", "", waiting, "Jobs that no worker has taken yet, by stage"],
    ["Longest silence of a busy worker", "", silentS ? duration(1000 * silentS) : "none", "A worker with a job reports regularly. After PARLEY_LEASE_MS of silence another worker takes the job over"],
    ["Failed work (dead letters)", "", failed.map(({ name, length }) => `${name.replace("dead:", "")}\u00a0${length}`).join(" · ") || "none", "Jobs that failed in every attempt, by stage. The runbook DeadLetters says what to do"],
  ]);
}

document.getElementById("legend").replaceChildren(...legend());
connectSearch();
window.monitor = { snapshots: 0 };
poll(
  () => "monitor/data",
  (data) => {
    show(data);
    window.monitor.snapshots += 1;
  },
);
