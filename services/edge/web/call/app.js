/**
 * The call page: connects its elements to the call and shows the call's state.
 *
 * `?autostart=1` starts a conversation when the page has loaded. `?raw=1` opens the microphone without echo
 * cancellation, noise suppression and gain control. `#agent=…&voice=…` chooses an agent and settings (link.js). Tests
 * read the state from `window.parley`.
 */

import { Agents } from "./agents.js";
import { Banner } from "./banner.js";
import { Call, RATE } from "./call.js";
import { Devices } from "./devices.js";
import { canRetry, microphoneError } from "./errors.js";
import { EventLog } from "./event_log.js";
import { Follow } from "./follow.js";
import { Hold } from "./hold.js";
import { Keep } from "./keep.js";
import { readLink } from "./link.js";
import { Meter } from "./meter.js";
import { preference } from "./preferences.js";
import { Settings } from "./settings.js";
import { statusOf } from "./status.js";
import { System } from "./system.js";
import { Timing } from "./timing.js";
import { Transcript } from "./transcript.js";
import { marksOf, segmentsOf } from "./turns.js";
import { find, setText } from "../elements.js";

const UNDO_MS = 10_000;
/** States that a screen reader announces: those of the connection. The others change at every turn and can be heard. */
const ANNOUNCED = new Set(["idle", "ready", "listening", "reconnecting"]);
const DIVIDERS = {
  reconnected: "Reconnected. Parley knows what was said above.",
  settings: "From here on with the new settings.",
  agent: "From here on with another agent.",
  restored: "The conversation goes on.",
};

const query = new URLSearchParams(location.search);
const link = readLink();
const touch = matchMedia("(pointer: coarse)");

const error = new Banner(find("error"));
const notice = new Banner(find("notice"));
const timing = new Timing(find("timing"));
const follow = new Follow(find("scroll"), find("latest"));
const transcript = new Transcript(find("log"), { follow, language: () => call.language });
const agents = new Agents(find("agents"), {
  wanted: link.agent || query.get("agent") || "",
  onChoice: () => call.restart("agent"),
  onMissing: (id, agent) => notice.show(`There is no agent “${id}” here. You are talking with ${agent.name}.`),
});
const settings = new Settings(find("settings"), {
  texts: link.texts,
  agent: () => agents.id,
  onSave: () => call.restart("settings"),
  onNotice: (text, actions) => notice.show(text, { actions }),
});
const call = new Call({
  raw: query.get("raw") === "1",
  config: () => settings.config,
  agent: () => agents.id,
  view: {
    changed: show,
    turnChanged,
    turnRemoved: (turn) => transcript.remove(turn),
    timingChanged: () => timing.update(call.turns.list, call.session),
    newSession: (cause) => transcript.divider(DIVIDERS[cause]),
    error: showError,
    microphoneFailed,
    settingRefused: (name) => settings.forget(name),
  },
});
const keep = new Keep({ turns: () => call.turns.list });
const devices = new Devices(find("devices"), {
  onMicrophone: (id) => call.chooseMicrophone(id),
  onSpeaker: (id) => call.loudspeaker.choose(id),
  onVolume: (level) => (call.loudspeaker.volume = level),
  onTheme: () => meter.draw(),
});
new EventLog(find("events"), find("open-events"), call.frames);
const meter = new Meter({ canvas: find("wave"), bar: find("level"), orb: find("orb"), levels: takeLevels });
new Hold(find("hold"), { enabled: () => call.pushToTalk && call.active, press: (pressed) => call.press(pressed) });

function show() {
  const { state, userSpeaking, microphone } = call;
  const live = state !== "idle";
  const [label, hint] = statusOf(call, touch.matches);
  setText(find("state"), label);
  setText(find("hint"), hint);
  document.body.dataset.state = state;
  document.body.classList.toggle("user-speaking", userSpeaking && !microphone.muted);
  setText(find("orb-label"), microphone.open ? "End" : live ? "Talk" : "Start");
  find("orb").setAttribute("aria-label", microphone.open ? "End the conversation" : "Start talking");
  find("orb").classList.toggle("on", microphone.open);
  find("mute").hidden = !microphone.open;
  find("mute").setAttribute("aria-pressed", microphone.muted);
  setText(find("mute-label"), microphone.muted ? "Unmute" : "Mute");
  find("hold").hidden = !call.pushToTalk || !microphone.open || microphone.muted;
  find("hold").setAttribute("aria-pressed", call.pressed);
  find("stop-reply").disabled = state !== "speaking" && state !== "paused";
  find("over").disabled = !call.turns.list.length;
  find("end").hidden = !live || microphone.open;
  if (ANNOUNCED.has(state)) setText(find("announcement"), label);
  if (microphone.stream) keep.recorder.addMicrophone(microphone.stream);
  if (call.loudspeaker.source) keep.recorder.addReply(call.loudspeaker.source, call.player.context);
  if (live) meter.start();
  else meter.stop();
  keepAwake(live);
}

function turnChanged(turn) {
  keep.note(turn);
  transcript.update(turn, call.turns.revealed(turn, RATE));
  find("welcome").hidden = true;
}

/** Shows an error in the banner; an empty text hides it. */
function showError(text, retryAtMs = null) {
  const actions = retryAtMs === null ? [] : [["Try now", () => call.connection.retryNow()]];
  error.show(text, { actions, retryAtMs });
}

function microphoneFailed(code) {
  error.show(microphoneError(code), { actions: canRetry(code) ? [["Try again", retryMicrophone]] : [] });
}

function retryMicrophone() {
  if (call.active) call.openMicrophone();
  else call.start({ microphone: true });
}

function takeLevels() {
  const microphone = call.level;
  call.level = 0;
  return { microphone, reply: call.player.level };
}

function startOver() {
  const undoCall = call.startOver();
  const undoTranscript = transcript.clear();
  const redraw = () => {
    timing.update(call.turns.list);
    find("welcome").hidden = call.turns.list.length > 0;
    show();
  };
  const undo = () => {
    undoTranscript();
    undoCall();
    redraw();
  };
  redraw();
  notice.show("The conversation was cleared.", { actions: [["Undo", undo]], forMs: UNDO_MS });
}

let lock = null;

/** Keeps the screen on during a conversation. */
async function keepAwake(wanted) {
  if (wanted === Boolean(lock) || !navigator.wakeLock) return;
  lock = wanted ? {} : (lock.release?.(), null);
  if (!wanted) return;
  lock = await navigator.wakeLock.request("screen").catch(() => null); // refused on low battery: the call continues
  lock?.addEventListener("release", () => (lock = null));
}

find("orb").addEventListener("click", () => {
  if (call.microphone.open) call.end();
  else if (call.active) call.openMicrophone();
  else call.start({ microphone: true });
});
find("mute").addEventListener("click", () => call.mute(!call.microphone.muted));
find("stop-reply").addEventListener("click", () => call.stopReply());
find("end").addEventListener("click", () => call.end());
find("over").addEventListener("click", startOver);
find("open-settings").addEventListener("click", () => {
  devices.refresh();
  settings.show();
});
find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value.trim();
  if (!text) return;
  find("text").value = "";
  follow.again();
  call.sendText(text);
});
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && !document.querySelector("dialog[open]")) call.stopReply();
});

const wide = matchMedia("(min-width: 60rem)");
const unfold = () => (find("timing").open = wide.matches || find("timing").open);
wide.addEventListener("change", unfold);
unfold();

let loaded = false;

window.parley = Object.freeze({
  get loaded() {
    return loaded;
  },
  get state() {
    return call.state;
  },
  get turns() {
    return call.turns.list.map((turn) => ({
      turn: turn.number, user: turn.user, reply: turn.reply, status: turn.status, marks: marksOf(turn),
      spoken: turn.spoken, segments: segmentsOf(turn),
    })); // prettier-ignore
  },
  get playedSamples() {
    return call.player.total;
  },
  get peak() {
    return call.player.peak;
  },
  get outputLatencyMs() {
    return call.player.latencyMs;
  },
  get session() {
    return call.session;
  },
  get events() {
    return [...call.events];
  },
});

call.microphone.device = preference("microphone");
show();
meter.draw();
if (!window.isSecureContext) microphoneFailed("insecure");
Promise.all([agents.load(), settings.load()]).then(() => {
  loaded = true;
  if (query.get("autostart") === "1") call.start({ microphone: true });
});
new System().load();
