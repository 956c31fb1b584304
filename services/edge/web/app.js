/**
 * The page: wires the elements to the call and shows its state.
 *
 * `?autostart=1` presses the button at load; `?raw=1` takes the microphone without echo cancellation, noise suppression
 * and gain control. `window.parley` lets a test look at what happened.
 */

import { Call } from "/web/call.js";
import { Meter } from "/web/meter.js";
import { Settings } from "/web/settings.js";
import { Timing } from "/web/timing.js";
import { Transcript } from "/web/transcript.js";
import { marksOf } from "/web/turns.js";
import { RATE } from "/web/call.js";

const query = new URLSearchParams(location.search);
const find = (id) => document.getElementById(id);

const LABELS = {
  idle: ["Ready when you are", "Press Start and speak, or type a message."],
  connecting: ["Connecting", "One moment."],
  ready: ["Connected", "Type a message, or press Talk to use the microphone."],
  listening: ["Listening", "Say something."],
  thinking: ["Thinking", ""],
  speaking: ["Speaking", "Just talk to interrupt."],
  paused: ["Paused", "Go on, or let Parley finish."],
  reconnecting: ["Reconnecting", "Your line was lost; it is being dialled again."],
};
/** What a screen reader is told: the line, not every breath of the conversation, which is heard anyway. */
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
    turnGone: (turn) => transcript.remove(turn),
    timed: () => timing.update(call.turns.list),
    newSession: () => transcript.divider("The line is back. A new conversation begins; what was said above is not remembered."),
    trouble: warn,
  },
});
const settings = new Settings(find("settings"), startOver);
const meter = new Meter({ canvas: find("wave"), bar: find("level"), orb: find("orb"), levels: takeLevels });

function show() {
  const { state, hearing, microphone } = call;
  const live = state !== "idle";
  let [label, hint] = LABELS[state];
  if (state === "listening" && hearing) [label, hint] = ["Listening", "I hear you."];
  if (call.pushToTalk && microphone.open && state === "listening") {
    [label, hint] = call.pressed ? ["Listening", "Release to send."] : ["Your turn", "Hold the space bar and speak."];
  }
  if (microphone.open && microphone.muted && state === "listening") [label, hint] = ["Muted", "Nothing that you say is sent."];
  setText(find("state"), label);
  setText(find("hint"), hint);
  document.body.dataset.state = state;
  document.body.classList.toggle("hearing", hearing && !microphone.muted);
  setText(find("orb-label"), microphone.open ? "End" : live ? "Talk" : "Start");
  find("orb").setAttribute("aria-label", microphone.open ? "End the conversation" : "Start talking");
  find("orb").classList.toggle("on", microphone.open);
  find("mute").hidden = !microphone.open;
  find("mute").setAttribute("aria-pressed", microphone.muted);
  setText(find("mute-label"), microphone.muted ? "Unmute" : "Mute");
  find("hush").disabled = state !== "speaking" && state !== "paused";
  find("over").disabled = !call.turns.list.length;
  find("end").hidden = !live || microphone.open;
  if (ANNOUNCED.has(state)) setText(find("announcement"), label);
  if (live) meter.start();
  else meter.stop();
  keepAwake(live);
}

/** Only what changed: a live region would speak again, and a selection would be lost. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function warn(words) {
  setText(find("trouble-words"), words);
  find("trouble").hidden = !words;
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
async function keepAwake(wanted) {
  if (wanted === Boolean(lock) || !navigator.wakeLock) return;
  lock = wanted ? {} : (lock.release?.(), null);
  if (!wanted) return;
  lock = await navigator.wakeLock.request("screen").catch(() => null); // refused on low battery: the call goes on
  lock?.addEventListener("release", () => (lock = null));
}

find("orb").addEventListener("click", () => {
  if (call.microphone.open) call.end();
  else if (call.active) call.talk();
  else call.start({ microphone: true });
});
find("mute").addEventListener("click", () => call.mute(!call.microphone.muted));
find("hush").addEventListener("click", () => call.hush());
find("end").addEventListener("click", () => call.end());
find("over").addEventListener("click", startOver);
find("open-settings").addEventListener("click", () => settings.show());
find("trouble-close").addEventListener("click", () => warn(""));
find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value.trim();
  if (!text) return;
  find("text").value = "";
  call.say(text);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !find("settings").open) call.hush();
  if (isTalkKey(event)) {
    event.preventDefault(); // neither scroll nor press a button
    if (!event.repeat) call.press(true);
  }
});
document.addEventListener("keyup", (event) => {
  if (isTalkKey(event)) event.preventDefault();
  if (event.code === "Space") call.press(false);
});
window.addEventListener("blur", () => call.press(false));

/** The space bar, where it does not write. */
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
    })); // prettier-ignore
  },
  get playedSamples() {
    return call.player.total;
  },
  get peak() {
    return call.player.peak;
  },
  get events() {
    return [...call.events];
  },
});

show();
meter.draw();
settings.load();
if (query.get("autostart") === "1") call.start({ microphone: true });
