/**
 * The connection to the server: one WebSocket at a time, reconnected when it is lost. Uses no audio and no DOM.
 * A new connection resumes the session, if the server still has it: no event and no sample is lost or repeated.
 *
 * A connection counts as open when the server has sent `ready`: the server may refuse a session after the handshake.
 * Reconnects with exponential back-off, and with jitter so that the clients of a restarted server do not all
 * reconnect at the same moment. Reconnects immediately when the network or the page comes back.
 */

import { KEY_GIVEN, openSocket } from "../server.js";
import { Received } from "./received.js";

const FIRST_DELAY_MS = 400;
const LONGEST_DELAY_MS = 15_000;
const READY_TIMEOUT_MS = 8_000;
const PING_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;
const BACKLOG_BYTES = 64_000; // 2 s of unsent audio: what is said now would arrive too late
const FINAL_CODES = new Set([1000, 1003, 1007, 1008, 1009]); // another attempt would end in the same way

export class Connection {
  /**
   * `path()` is that of the WebSocket; `start()` returns the fields of `start_streaming`. `onStatus(status, detail)`: `connecting`, `open`,
   * `waiting` {code, reason, delayMs, established} or `closed` {code, reason}; `onEvent(message)`; `onAudio(pcm)`;
   * `frames` notes all messages (frames.js).
   */
  constructor({ path, start, onStatus, onEvent, onAudio, frames }) {
    Object.assign(this, { path, start, onStatus, onEvent, onAudio, frames });
    this.status = "closed";
    this.attempt = 0;
    this.droppedChunks = 0;
    for (const event of ["online", KEY_GIVEN]) window.addEventListener(event, () => this.retryNow());
    this.received = new Received();
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.retryNow());
  }

  /** Begins a new session. */
  open() {
    this.attempt = 0;
    this.received.forget();
    this.connect();
  }

  close() {
    this.disconnect(1000);
    this.setStatus("closed");
  }

  /** Whether the session can go on after the connection was lost. */
  get resumable() {
    return Boolean(this.received.token);
  }

  /** Whether a message can be sent. A socket stops being open before its `onclose` is called. */
  get isOpen() {
    return this.status === "open" && this.socket.readyState === WebSocket.OPEN;
  }

  /** Returns false, and sends nothing, if the connection is not open. */
  send(message) {
    if (!this.isOpen) return false;
    this.transmit(JSON.stringify(message));
    return true;
  }

  sendAudio(pcm) {
    if (!this.isOpen) return;
    if (this.socket.bufferedAmount > BACKLOG_BYTES) this.droppedChunks += 1;
    else this.transmit(pcm);
  }

  transmit(data) {
    this.socket.send(data);
    this.frames.add("client", data);
  }

  /** The network or the page is back: reconnect without delay, or check that the connection still works. */
  retryNow() {
    if (this.status === "waiting") this.connect();
    else if (this.status === "open") this.ping();
  }

  setStatus(status, detail = {}) {
    this.status = status;
    this.onStatus(status, detail);
  }

  connect() {
    this.disconnect(1000);
    const socket = openSocket(this.path());
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.established = false;
    socket.onopen = () => this.transmit(JSON.stringify({ type: "start_streaming", ...this.start(), ...this.received.fields }));
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) => this.lost(code, reason);
    this.timer = setTimeout(() => this.lost(1006, ""), READY_TIMEOUT_MS);
    this.setStatus("connecting");
  }

  receive(data) {
    this.frames.add("server", data);
    if (typeof data !== "string") {
      this.received.audio(data);
      this.onAudio(data);
      return;
    }
    const message = JSON.parse(data);
    this.received.message(message);
    if (message.type === "pong") this.unanswered = null;
    if (message.type === "ready") {
      clearTimeout(this.timer);
      this.attempt = 0;
      this.established = true;
      this.unanswered = null; // send time of the first ping without a pong
      this.heartbeat = setInterval(() => this.checkHeartbeat(), PING_MS);
      this.setStatus("open");
    }
    this.onEvent(message);
  }

  checkHeartbeat() {
    if (this.unanswered !== null && performance.now() - this.unanswered > PONG_TIMEOUT_MS) this.lost(1006, "");
    else this.ping();
  }

  ping() {
    this.unanswered ??= performance.now();
    this.send({ type: "ping" });
  }

  lost(code, reason) {
    const { established } = this;
    this.disconnect(4000);
    if (FINAL_CODES.has(code)) {
      this.setStatus("closed", { code, reason });
      return;
    }
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.attempt);
    const delayMs = longest * (0.5 + Math.random() / 2);
    this.attempt += 1;
    this.timer = setTimeout(() => this.connect(), delayMs);
    this.setStatus("waiting", { code, reason, delayMs, established });
  }


  disconnect(code) {
    clearTimeout(this.timer);
    clearInterval(this.heartbeat);
    const { socket } = this;
    if (!socket) return;
    this.socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }
}
