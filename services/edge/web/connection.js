/**
 * The line to the server: one WebSocket at a time, opened again when it is lost. Knows no audio and no page.
 *
 * A line counts as open when the server has said `ready`; a refusal after the handshake is no open line.
 * Lost lines are tried again after a time that doubles from try to try, with jitter so that the clients of a
 * restarted server do not all come at once, and immediately when the network or the page comes back.
 */

const FIRST_DELAY_MS = 400;
const LONGEST_DELAY_MS = 15_000;
const READY_TIMEOUT_MS = 8_000;
const PING_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;
const BACKLOG_BYTES = 64_000; // 2 s of audio that the network did not take: what is said now would come too late
const FINAL_CODES = new Set([1000, 1003, 1007, 1008, 1009]); // the same again would end the same way

export class Connection {
  /**
   * `config()`: what `start_streaming` carries. `onStatus(status, detail)`: `connecting`, `open`,
   * `waiting` {code, reason, delayMs, established} or `closed` {code, reason}; `onEvent(message)`; `onAudio(pcm)`.
   */
  constructor({ url, config, onStatus, onEvent, onAudio }) {
    Object.assign(this, { url, config, onStatus, onEvent, onAudio });
    this.status = "closed";
    this.attempt = 0;
    this.droppedChunks = 0;
    window.addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.hurry());
  }

  open() {
    this.attempt = 0;
    this.dial();
  }

  close() {
    this.hangUp(1000);
    this.become("closed");
  }

  /** False where there is no open line to send it on. */
  send(message) {
    if (this.status !== "open") return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  sendAudio(pcm) {
    if (this.status !== "open") return;
    if (this.socket.bufferedAmount > BACKLOG_BYTES) this.droppedChunks += 1;
    else this.socket.send(pcm);
  }

  /** Something changed for the better: do not wait for the next try. */
  hurry() {
    if (this.status === "waiting") this.dial();
    else if (this.status === "open") this.ping();
  }

  become(status, detail = {}) {
    this.status = status;
    this.onStatus(status, detail);
  }

  dial() {
    this.hangUp(1000);
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.established = false;
    socket.onopen = () => socket.send(JSON.stringify({ type: "start_streaming", config: this.config() }));
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) => this.lost(code, reason);
    this.timer = setTimeout(() => this.lost(1006, ""), READY_TIMEOUT_MS);
    this.become("connecting");
  }

  receive(data) {
    if (typeof data !== "string") {
      this.onAudio(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "pong") this.unanswered = null;
    if (message.type === "ready") {
      clearTimeout(this.timer);
      this.attempt = 0;
      this.established = true;
      this.unanswered = null; // when the first ping that has no pong yet was sent
      this.heartbeat = setInterval(() => this.beat(), PING_MS);
      this.become("open");
    }
    this.onEvent(message);
  }

  beat() {
    if (this.unanswered !== null && performance.now() - this.unanswered > PONG_TIMEOUT_MS) this.lost(1006, "");
    else this.ping();
  }

  ping() {
    this.unanswered ??= performance.now();
    this.send({ type: "ping" });
  }

  lost(code, reason) {
    const { established } = this;
    this.hangUp(4000);
    if (FINAL_CODES.has(code)) {
      this.become("closed", { code, reason });
      return;
    }
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.attempt);
    const delayMs = longest * (0.5 + Math.random() / 2);
    this.attempt += 1;
    this.timer = setTimeout(() => this.dial(), delayMs);
    this.become("waiting", { code, reason, delayMs, established });
  }

  hangUp(code) {
    clearTimeout(this.timer);
    clearInterval(this.heartbeat);
    const { socket } = this;
    if (!socket) return;
    this.socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }
}
