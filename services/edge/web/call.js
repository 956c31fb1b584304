/**
 * The call: what the person does and what the server says, turned into turns, sound and a state. Knows no DOM.
 *
 * States: `idle`, `connecting`, `ready` (connected, microphone off), `listening`, `thinking`, `speaking`, `paused` (someone speaks into the reply), `reconnecting`.
 */

import { Connection } from "/web/connection.js";
import { Microphone } from "/web/microphone.js";
import { Player } from "/web/player.js";
import { Turns } from "/web/turns.js";
import { lineTrouble, microphoneTrouble, stagesTrouble } from "/web/words.js";

export const RATE = 16_000;
const REPORT_MS = 250;
const EVENTS_KEPT = 200;
const CHECK_TIMEOUT_MS = 3_000;

export class Call {
  /** `view`: changed(), turnChanged(turn), turnGone(turn), timed(), newSession(), trouble(words or ""). */
  constructor({ raw, config, view }) {
    this.view = view;
    this.pushToTalk = false;
    this.turns = new Turns();
    this.events = [];
    this.level = 0;
    this.active = false;
    this.sessions = 0;
    this.rest();
    this.connection = new Connection({
      url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws?rate=${RATE}`,
      config,
      onStatus: (status, detail) => this.lineChanged(status, detail),
      onEvent: (message) => this.receive(message),
      onAudio: (pcm) => this.hear(pcm),
    });
    this.microphone = new Microphone({
      rate: RATE,
      raw,
      onChunk: (pcm, peak) => this.speak(pcm, peak),
      onEnded: () => this.trouble(microphoneTrouble("lost")),
    });
    // A report may still come of a turn that was forgotten meanwhile.
    const about = (key, tell) => this.turns.byKey(key) && tell(this.turns.byKey(key));
    this.player = new Player({
      rate: RATE,
      onStarted: (key, delayMs) => about(key, (turn) => this.replyStarted(turn, delayMs)),
      onProgress: (key, played) => about(key, (turn) => this.replyPlayed(turn, played)),
      onPaused: (key, played) => about(key, (turn) => this.replyPaused(turn, played)),
      onOver: (key, played, cleared) => about(key, (turn) => this.replyOver(turn, played, cleared)),
    });
  }

  get state() {
    if (!this.active) return "idle";
    const { status } = this.connection;
    if (status !== "open") return status === "connecting" && !this.sessions ? "connecting" : "reconnecting";
    if (this.player.sounding) return this.paused ? "paused" : "speaking";
    if (this.awaited && !this.hearing) return "thinking";
    return this.microphone.open ? "listening" : "ready";
  }

  /** Nothing is being said by anyone. */
  rest() {
    this.hearing = false;
    this.paused = false;
    this.pressed = false; // the key of push-to-talk
    this.awaited = null; // the turn that a reply is expected to
    this.replying = null; // the turn that arriving audio belongs to
    this.reportedMs = 0; // clock time of the last `played`
  }

  // -- what the person does ------------------------------------------------------------------------

  /** From a gesture of the person: browsers give sound and microphone only then. */
  async start({ microphone }) {
    this.active = true;
    this.view.trouble("");
    const sound = this.player.start();
    this.connection.open();
    if (microphone) this.talk();
    await sound.catch(() => this.trouble("This browser does not play the reply; it is shown as text."));
  }

  async talk() {
    try {
      await this.microphone.start();
    } catch (error) {
      this.view.trouble(microphoneTrouble(error.code));
    }
    this.view.changed();
  }

  end() {
    this.active = false;
    this.sessions = 0;
    this.microphone.stop();
    this.player.clear();
    this.rest();
    this.connection.close();
  }

  /** A new session with the settings as they are now; the conversation so far is forgotten on both sides. */
  startOver() {
    this.turns.forget();
    this.player.clear();
    this.rest();
    this.sessions = 0;
    if (this.active) this.connection.open();
  }

  say(text) {
    const turn = this.turns.typed(text);
    this.view.turnChanged(turn);
    if (!this.active) this.start({ microphone: false });
    else this.sendTyped(turn);
  }

  sendTyped(turn) {
    turn.sent = this.connection.send({ type: "text_input", text: turn.user });
    if (turn.sent) this.awaited = turn;
    this.view.changed();
  }

  mute(muted) {
    this.microphone.muted = muted;
    this.view.changed();
  }

  /** Push-to-talk: what is said while pressed is a turn when released. */
  press(pressed) {
    if (!this.pushToTalk || pressed === this.pressed || this.connection.status !== "open") return;
    this.pressed = pressed;
    if (pressed) this.hush();
    else this.connection.send({ type: "commit" });
    this.hearing = pressed;
    this.view.changed();
  }

  /** Silences the reply here at once, and tells the server; what it still sends of it is not played. */
  hush() {
    const turn = this.replying ?? this.turns.byKey(this.player.sounding);
    if (!turn) return;
    this.connection.send({ type: "cancel" });
    this.cut(turn, "cancelled");
    this.view.changed();
  }

  // -- sound ---------------------------------------------------------------------------------------

  speak(pcm, peak) {
    if (this.pushToTalk && !this.pressed) return;
    this.level = Math.max(this.level, this.microphone.muted ? 0 : peak);
    this.connection.sendAudio(pcm);
  }

  hear(pcm) {
    if (!this.replying || !this.player.available) return;
    this.replying.received += pcm.byteLength / 2;
    this.player.push(this.replying.key, pcm);
  }

  replyStarted(turn, delayMs) {
    turn.playDelayMs = delayMs;
    if (this.awaited === turn) this.awaited = null;
    this.view.turnChanged(turn);
    this.view.timed();
    this.view.changed();
  }

  replyPlayed(turn, played) {
    turn.played = played;
    if (performance.now() - this.reportedMs >= REPORT_MS) this.report(turn, this.player.latencyMs);
    this.view.turnChanged(turn);
  }

  /** The exact place, at once: the server cuts or resumes the reply there. */
  replyPaused(turn, played) {
    turn.played = played;
    this.report(turn, this.player.latencyMs);
    this.view.turnChanged(turn);
  }

  replyOver(turn, played, cleared) {
    turn.played = played;
    turn.heardOut = !cleared;
    if (!cleared) this.turns.learnPace(turn, RATE);
    // The last sample was rendered but is still on its way to the ear; after a cut that part was never heard.
    if (cleared) this.report(turn, this.player.latencyMs);
    else setTimeout(() => this.report(turn, 0), this.player.latencyMs);
    if (this.awaited === turn) this.awaited = null;
    this.view.turnChanged(turn);
    this.view.changed();
  }

  report(turn, latencyMs) {
    if (!turn.received) return;
    this.reportedMs = performance.now();
    const ms = Math.max(0, Math.round((1000 * turn.played) / RATE - latencyMs));
    this.connection.send({ type: "played", turn: turn.number, ms });
  }

  cut(turn, status) {
    turn.status = status;
    this.paused = false;
    this.replying = null;
    this.player.clear();
    this.view.turnChanged(turn);
  }

  // -- what the server says ------------------------------------------------------------------------

  receive(message) {
    this.events.push(message.type);
    if (this.events.length > EVENTS_KEPT) this.events.shift();
    const handler = HANDLERS[message.type];
    if (!handler) return;
    handler(this, message);
    this.view.changed();
  }

  lineChanged(status, detail) {
    if (status === "waiting") {
      this.player.clear();
      this.rest();
      this.explain(detail);
    }
    if (status === "closed" && this.active) {
      this.end();
      this.trouble(lineTrouble({ ...detail, established: true }));
    }
    this.view.changed();
  }

  /** Says why there is no line; where the socket did not tell, the server may. */
  async explain(detail) {
    const words = lineTrouble(detail);
    const again = `Trying again in ${Math.ceil(detail.delayMs / 1000)} s.`;
    this.trouble(`${words} ${again}`);
    if (detail.established || detail.reason) return;
    const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
    const response = await fetch("/test-connection", { method: "POST", signal }).catch(() => null);
    const why = response?.ok ? stagesTrouble(await response.json().catch(() => ({}))) : "";
    if (why && this.connection.status !== "open") this.trouble(`${why} ${again}`);
  }

  trouble(words) {
    this.view.trouble(words);
    this.view.changed();
  }
}

const HANDLERS = {
  ready(call, { config }) {
    call.pushToTalk = !config.detect_turns; // of the person's choice and the server's default
    call.rest();
    for (const turn of call.turns.abandoned({ number: Infinity })) drop(call, turn);
    call.sessions += 1;
    if (call.sessions > 1) call.view.newSession();
    if (call.sessions > 1) call.view.trouble("");
    for (const turn of call.turns.newSession()) call.sendTyped(turn);
  },
  vad_status(call, { is_speaking: isSpeaking }) {
    call.hearing = isSpeaking;
  },
  transcript(call, message) {
    const turn = call.turns.of(message);
    turn.user = message.text;
    turn.userFinal = message.final;
    // A turn that is taken back ends with an empty transcript, without having been worked on.
    if (message.final && !message.text.trim() && call.awaited !== turn) drop(call, turn);
    else call.view.turnChanged(turn);
    for (const other of call.turns.abandoned(turn)) drop(call, other);
  },
  processing_started(call, message) {
    call.awaited = call.turns.of(message);
  },
  reply_started(call, message) {
    const turn = call.turns.of(message);
    turn.replying = true;
    call.replying = turn;
  },
  model_response(call, message) {
    const turn = call.turns.of(message);
    turn.reply += message.text;
    call.view.turnChanged(turn);
  },
  reply_done(call, message) {
    const turn = call.turns.of(message);
    turn.done = true;
    turn.status ||= message.status ?? "completed"; // a reply that was cut stays so, however far it was sent
    if (call.replying === turn) call.replying = null;
    if (call.awaited === turn && turn.status !== "completed") call.awaited = null;
    call.player.end(turn.key);
    call.view.turnChanged(turn);
  },
  pause(call) {
    call.paused = true;
    call.player.pause();
  },
  resume(call) {
    call.paused = false;
    call.player.resume();
  },
  interrupt(call, { turn: number, heard }) {
    const turn = call.turns.known(number);
    call.paused = false;
    if (turn && heard !== undefined) turn.heard = heard;
    if (!turn) call.player.clear();
    else if (!turn.heardOut) call.cut(turn, turn.status === "cancelled" ? "cancelled" : "interrupted"); // else it came just after the last sound: nothing was lost
  },
  timing(call, message) {
    const turn = call.turns.of(message);
    Object.assign(turn.serverMarks, message.marks);
    call.view.turnChanged(turn);
    call.view.timed();
  },
  error(call, { message, code, turn: number }) {
    if (call.awaited && (number === undefined || call.awaited.number === number)) call.awaited = null;
    call.view.trouble(message || code);
  },
};

function drop(call, turn) {
  call.turns.remove(turn);
  call.view.turnGone(turn);
}
