/**
 * The call: turns the person's actions and the server's messages into turns, sound and a state. Uses no DOM.
 *
 * States: `idle`, `connecting`, `ready` (connected, microphone off), `listening`, `thinking`, `speaking`, `paused`
 * (the person speaks during the reply), `reconnecting`.
 */

import { Connection } from "./connection.js";
import { Frames } from "./frames.js";
import { Loudspeaker } from "./loudspeaker.js";
import { Microphone } from "./microphone.js";
import { Player } from "./player.js";
import { Turns } from "./turns.js";
import { connectionError, refusalOf } from "./errors.js";
import { said } from "./said.js";
import { ask } from "../server.js";

export const RATE = 16_000;
const REPORT_MS = 250;
const EVENTS_KEPT = 200;
const CHECK_TIMEOUT_MS = 3_000;
const REFUSED = new Set(["bad_field", "unknown_language", "unknown_voice"]); // codes of an error about a setting

export class Call {
  /**
   * `view`: changed(), turnChanged(turn), turnRemoved(turn), timingChanged(), newSession(cause), error(text or "",
   * retryAtMs), microphoneFailed(code), settingRefused(name). `config()`: the settings that differ from the server's.
   * `agent()`: the agent's id, empty for the server's choice.
   */
  constructor({ raw, config, agent, view }) {
    this.view = view;
    this.pushToTalk = false;
    this.turns = new Turns();
    this.frames = new Frames();
    this.events = [];
    this.level = 0;
    this.active = false;
    this.sessions = 0;
    this.cause = "reconnected"; // why the next session begins, if it is not the first
    this.language = ""; // of the session
    this.asked = {}; // the settings that the session was started with
    this.refused = null; // the one of them because of which the server refused the session
    this.session = null; // the id of the newest session
    this.reset();
    this.connection = new Connection({
      path: () => pathOf(agent()),
      start: () => {
        this.asked = config();
        const history = said(this.turns.list);
        return { config: this.asked, ...(history.length ? { history } : {}) };
      },
      onStatus: (status, detail) => this.connectionChanged(status, detail),
      onEvent: (message) => this.receive(message),
      onAudio: (pcm) => this.playAudio(pcm),
      frames: this.frames,
    });
    this.microphone = new Microphone({
      rate: RATE,
      raw,
      onChunk: (pcm, peak) => this.sendAudio(pcm, peak),
      onEnded: () => this.microphoneFailed("lost"),
    });
    this.loudspeaker = new Loudspeaker();
    // The player may still report on a turn that has been removed.
    const withTurn = (key, handle) => this.turns.byKey(key) && handle(this.turns.byKey(key));
    this.player = new Player({
      rate: RATE,
      onStarted: (key, delayMs) => withTurn(key, (turn) => this.replyStarted(turn, delayMs)),
      onProgress: (key, played) => withTurn(key, (turn) => this.replyPlayed(turn, played)),
      onPaused: (key, played) => withTurn(key, (turn) => this.replyPaused(turn, played)),
      onOver: (key, played, cleared) => withTurn(key, (turn) => this.replyOver(turn, played, cleared)),
    });
  }

  get state() {
    if (!this.active) return "idle";
    const { status } = this.connection;
    if (status !== "open") return status === "connecting" && !this.sessions ? "connecting" : "reconnecting";
    if (this.player.sounding) return this.paused ? "paused" : "speaking";
    if (this.awaited && !this.userSpeaking) return "thinking";
    return this.microphone.open ? "listening" : "ready";
  }

  /** Forgets the turn in progress, and falls silent. */
  forgetReply() {
    this.player.clear();
    this.reset();
  }

  /** Forgets the turn in progress: nobody speaks, no reply is expected. */
  reset() {
    this.userSpeaking = false;
    this.paused = false;
    this.pressed = false; // whether the push-to-talk key is down
    this.awaited = null; // the turn whose reply is expected
    this.replying = null; // the turn that arriving audio belongs to
    this.reportedMs = 0; // performance.now() of the last `played` message
  }

  // -- what the person does ------------------------------------------------------------------------

  /** Call it from a click or key press: browsers allow sound and microphone only then. */
  async start({ microphone }) {
    this.active = true;
    this.view.error("");
    const sound = window.isSecureContext ? this.player.start() : false; // Chromium has worklets that fail to load there
    this.connection.open();
    if (microphone) this.openMicrophone();
    try {
      if (await sound) this.loudspeaker.attach(this.player.node, this.player.context);
      else if (!microphone) this.microphoneFailed("silent");
    } catch {
      this.showError("This browser cannot play the reply. The text is still shown.");
    }
  }

  async openMicrophone() {
    try {
      await this.microphone.start();
    } catch (error) {
      this.microphoneFailed(error.code);
    }
    this.view.changed();
  }

  microphoneFailed(code) {
    this.view.microphoneFailed(code);
    this.view.changed();
  }

  /** Uses another microphone from now on. */
  async chooseMicrophone(device) {
    this.microphone.device = device;
    if (!this.microphone.open) return;
    this.microphone.stop();
    await this.openMicrophone();
  }

  end() {
    this.active = false;
    this.sessions = 0;
    this.microphone.stop();
    this.player.clear();
    this.reset();
    this.connection.close();
  }

  /** Starts a new session. Page and server forget the conversation so far. Returns what undoes that. */
  startOver() {
    const forgotten = this.turns.list;
    this.turns.forget();
    this.player.clear();
    this.reset();
    this.sessions = 0;
    if (this.active) this.connection.open();
    return () => {
      this.turns.list = forgotten;
      this.restart("restored");
    };
  }

  /** Goes on with the conversation in a new session, with the current settings and agent. */
  restart(cause) {
    if (!this.active) return;
    this.stopReply();
    this.player.clear();
    this.reset();
    this.cause = cause;
    this.sessions = Math.max(1, this.sessions);
    this.connection.open();
  }

  sendText(text) {
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

  /** Push-to-talk: releasing the key ends the turn. */
  press(pressed) {
    if (!this.pushToTalk || pressed === this.pressed || this.connection.status !== "open") return;
    this.pressed = pressed;
    if (pressed) this.stopReply();
    else this.connection.send({ type: "commit" });
    this.userSpeaking = pressed;
    this.view.changed();
  }

  /** Stops the reply immediately and cancels it on the server. Audio that still arrives is not played. */
  stopReply() {
    const turn = this.replying ?? this.turns.byKey(this.player.sounding);
    if (!turn) return;
    this.connection.send({ type: "cancel" });
    this.cutReply(turn, "cancelled");
    this.view.changed();
  }

  // -- sound ---------------------------------------------------------------------------------------

  sendAudio(pcm, peak) {
    if (this.pushToTalk && !this.pressed) return;
    this.level = Math.max(this.level, this.microphone.muted ? 0 : peak);
    this.connection.sendAudio(pcm);
  }

  playAudio(pcm) {
    if (!this.replying || !this.player.available) return;
    this.replying.received += pcm.byteLength / 2;
    this.player.push(this.replying.key, pcm);
  }

  replyStarted(turn, delayMs) {
    turn.playDelayMs = delayMs;
    if (this.awaited === turn) this.awaited = null;
    this.view.turnChanged(turn);
    this.view.timingChanged();
    this.view.changed();
  }

  replyPlayed(turn, played) {
    turn.played = played;
    if (performance.now() - this.reportedMs >= REPORT_MS) this.report(turn, this.player.heardMs(played));
    this.view.turnChanged(turn);
  }

  /** Reports the position without delay: the server cuts or resumes the reply there. */
  replyPaused(turn, played) {
    turn.played = played;
    this.report(turn, this.player.heardMs(played));
    this.view.turnChanged(turn);
  }

  replyOver(turn, played, cleared) {
    turn.played = played;
    turn.playedToEnd = !cleared;
    if (!cleared) this.turns.learnPace(turn, RATE);
    // The last samples are rendered but not audible yet, for the output latency. After a cut they never are.
    if (cleared) this.report(turn, this.player.heardMs(played));
    else setTimeout(() => this.report(turn, (1000 * played) / RATE), this.player.latencyMs);
    if (this.awaited === turn) this.awaited = null;
    this.view.turnChanged(turn);
    this.view.changed();
  }

  /** Tells the server how many milliseconds of the reply were heard. */
  report(turn, heardMs) {
    if (!turn.received) return;
    this.reportedMs = performance.now();
    this.connection.send({ type: "played", turn: turn.number, ms: Math.round(heardMs) });
  }

  /** The session goes on with a new connection. Tells the server what was heard and typed meanwhile. */
  resumed() {
    this.view.error("");
    const turn = this.turns.known(this.connection.received.turn);
    if (turn) this.report(turn, turn.playedToEnd ? (1000 * turn.played) / RATE : this.player.heardMs(turn.played));
    for (const typed of this.turns.unsent) this.sendTyped(typed);
  }

  cutReply(turn, status) {
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

  connectionChanged(status, detail) {
    if (status === "waiting") {
      if (!this.connection.resumable) this.forgetReply(); // else what has arrived plays on
      this.explain(detail);
    }
    if (status === "closed" && this.active) {
      if (this.retriesWithoutSetting()) return;
      this.end();
      this.showError(connectionError({ ...detail, established: true }));
    }
    this.view.changed();
  }

  /** Shows why the connection is lost. If the close frame has no reason, asks the server for one over HTTP. */
  async explain(detail) {
    const retryAtMs = performance.now() + detail.delayMs;
    this.showError(connectionError(detail), retryAtMs);
    if (detail.established || detail.reason) return;
    const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
    const response = await ask("test-connection", { method: "POST", signal }, { again: true }).catch(() => null);
    const why = response ? refusalOf(await response.json().catch(() => ({}))) : "";
    if (this.connection.status !== "waiting") return;
    if (response?.status === 401) {
      this.end();
      this.showError("This server asks for a key. Press Start to enter one.");
    } else if (why) this.showError(why, retryAtMs);
  }

  /** If the server refused the session because of a setting of the person, goes on without it. What was typed is sent then. */
  retriesWithoutSetting() {
    const name = this.refused;
    this.refused = null;
    if (!(name in this.asked)) return false;
    this.view.settingRefused(name);
    this.connection.open();
    return true;
  }

  showError(text, retryAtMs = null) {
    this.view.error(text, retryAtMs);
    this.view.changed();
  }
}

function pathOf(agent) {
  const query = new URLSearchParams({ rate: RATE, ...(agent ? { agent } : {}) });
  return `ws?${query}`;
}

const HANDLERS = {
  ready(call, { config, session_id: session, resumed }) {
    if (resumed) {
      call.resumed();
      return;
    }
    call.session = session;
    call.language = config.language;
    call.pushToTalk = !config.detect_turns; // the person's choice, or else the server's default
    call.forgetReply();
    for (const turn of call.turns.abandoned({ number: Infinity })) drop(call, turn);
    call.sessions += 1;
    if (call.sessions > 1) call.view.newSession(call.cause);
    if (call.sessions > 1) call.view.error("");
    call.cause = "reconnected";
    for (const turn of call.turns.newSession()) call.sendTyped(turn);
  },
  vad_status(call, { is_speaking: isSpeaking }) {
    call.userSpeaking = isSpeaking;
  },
  transcript(call, message) {
    const turn = call.turns.of(message);
    turn.user = message.text;
    turn.userFinal = message.final;
    // A discarded turn ends with an empty transcript and no `processing_started`.
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
    turn.reason = message.reason ?? "";
    turn.status ||= message.status ?? "completed"; // a reply that was cut here stays cut, even if the server had sent all of it
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
    else if (!turn.playedToEnd) call.cutReply(turn, turn.status === "cancelled" ? "cancelled" : "interrupted"); // if it was played to its end, nothing was lost
  },
  timing(call, message) {
    const turn = call.turns.of(message);
    Object.assign(turn.serverMarks, message.marks);
    turn.spoken = message.spoken;
    turn.segments = message.segments;
    turn.reasons = message.reasons ?? []; // an edge of an earlier release sends none
    call.view.turnChanged(turn);
    call.view.timingChanged();
  },
  error(call, { message, code, turn: number }) {
    if (call.connection.status !== "open" && REFUSED.has(code)) {
      call.refused = { unknown_language: "language", unknown_voice: "voice" }[code] ?? /^config\.(\w+)/.exec(message)?.[1];
      if (call.refused) return call.connection.close();
    }
    if (call.awaited && (number === undefined || call.awaited.number === number)) call.awaited = null;
    call.view.error(message || code);
  },
};

function drop(call, turn) {
  call.turns.remove(turn);
  call.view.turnRemoved(turn);
}
