/**
 * The call page: connects its elements to the call and shows the call's state.
 *
 * `?autostart=1` starts a conversation when the page has loaded. `?raw=1` opens the microphone without echo
 * cancellation, noise suppression and gain control. Tests read the state from `window.parley`.
 */

import { Call, RATE } from "/web/call/call.js";
import { EventLog } from "/web/call/event_log.js";
import { Meter } from "/web/call/meter.js";
import { Settings } from "/web/call/settings.js";
import { Timing } from "/web/call/timing.js";
import { Transcript } from "/web/call/transcript.js";
import { marksOf, segmentsOf } from "/web/call/turns.js";

const query = new URLSearchParams(location.search);
const find = (id) => document.getElementById(id);

const LABELS = {
  idle: ["Ready when you are", "Press Start and speak, or type a message."],
  connecting: ["Connecting", "Waiting for the server."],
  ready: ["Connected", "Type a message, or press Talk to use the microphone."],
  listening: ["Listening", "Say something."],
  thinking: ["Thinking", ""],
  speaking: ["Speaking", "Speak to interrupt."],
  paused: ["Paused", "Keep speaking to interrupt, or stay silent to hear the rest."],
  reconnecting: ["Reconnecting", "The connection was lost. Trying again."],
};
/** States that a screen reader announces: those of the connection. The others change at every turn and can be heard. */
const ANNOUNCED = new Set(["idle", "ready", "listening", "reconnecting"]);

const transcript = new Transcript(find("log"), find("log-end"));
const timing = new Timing(find("timing"));
const call = new Call({
  raw: query.get("raw") === "1",
  config: () => settings.config,
  view: {
    changed: show,
    turnChanged: (turn) => {
      transcript.update(turn, call.turns.revealed(turn, RATE));
      find("welcome").hidden = true;
    },
    turnRemoved: (turn) => transcript.remove(turn),
    timingChanged: () => timing.update(call.turns.list, call.session),
    newSession: () => transcript.divider("Reconnected. This is a new conversation: Parley does not remember the messages above."),
    error: showError,
  },
});
const settings = new Settings(find("settings"), startOver);
new EventLog(find("events"), find("open-events"), call.frames);
const meter = new Meter({ canvas: find("wave"), bar: find("level"), orb: find("orb"), levels: takeLevels });

function show() {
  const { state, userSpeaking, microphone } = call;
  const live = state !== "idle";
  let [label, hint] = LABELS[state];
  if (state === "listening" && userSpeaking) [label, hint] = ["Listening", "You are speaking."];
  if (call.pushToTalk && microphone.open && state === "listening") {
    [label, hint] = call.pressed ? ["Listening", "Release to send."] : ["Your turn", "Hold the space bar and speak."];
  }
  if (microphone.open && microphone.muted && state === "listening") [label, hint] = ["Muted", "Press Unmute to speak."];
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
  find("stop-reply").disabled = state !== "speaking" && state !== "paused";
  find("over").disabled = !call.turns.list.length;
  find("end").hidden = !live || microphone.open;
  if (ANNOUNCED.has(state)) setText(find("announcement"), label);
  if (live) meter.start();
  else meter.stop();
  keepAwake(live);
}

/** Leaves an unchanged text alone: setting it again would make a live region speak and clear a selection. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows an error in the banner; an empty text hides it. */
function showError(text) {
  setText(find("error-text"), text);
  find("error").hidden = !text;
}

function takeLevels() {
  const microphone = call.level;
  call.level = 0;
  return { microphone, reply: call.player.level };
}

function startOver() {
  call.startOver();
  transcript.clear();
  timing.update([]);
  find("welcome").hidden = false;
  show();
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
find("open-settings").addEventListener("click", () => settings.show());
find("error-close").addEventListener("click", () => showError(""));
find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value.trim();
  if (!text) return;
  find("text").value = "";
  call.sendText(text);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !find("settings").open) call.stopReply();
  if (isTalkKey(event)) {
    event.preventDefault(); // do not scroll or press a button
    if (!event.repeat) call.press(true);
  }
});
document.addEventListener("keyup", (event) => {
  if (isTalkKey(event)) event.preventDefault();
  if (event.code === "Space") call.press(false);
});
window.addEventListener("blur", () => call.press(false));

/** Whether this is the push-to-talk key: the space bar outside of text fields. */
function isTalkKey({ code, target }) {
  return code === "Space" && call.pushToTalk && call.active && !target.closest("input, textarea, select, dialog");
}

const wide = matchMedia("(min-width: 60rem)");
const unfold = () => (find("timing").open = wide.matches || find("timing").open);
wide.addEventListener("change", unfold);
unfold();

window.parley = Object.freeze({
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

show();
meter.draw();
settings.load();
if (query.get("autostart") === "1") call.start({ microphone: true });
