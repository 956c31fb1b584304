/** The loudspeaker: gives reply audio to the playback worklet and reports how much of it was rendered. */

import { addressOf } from "../server.js";

const ARRIVALS_KEPT = 8; // replies whose arrival time is kept; more than one at a time is rare
const WAITING_LIMIT = 1_000; // messages; later ones are dropped

export class Player {
  /**
   * The callbacks get the reply's key; `played` is in samples at the rate of the wire.
   * `onStarted(reply, delayMs)`: the time from the arrival of the first audio until it leaves the loudspeaker;
   * `onProgress(reply, played)`; `onPaused(reply, played)`; `onOver(reply, played, cleared)`.
   */
  constructor({ rate, onStarted, onProgress, onPaused, onOver }) {
    Object.assign(this, { rate, onStarted, onProgress, onPaused, onOver });
    this.total = 0;
    this.peak = 0;
    this.level = 0;
    this.sounding = null; // the reply that is playing
    this.waiting = []; // messages to the worklet while it still loads: a fast reply arrives before that
    this.arrivals = new Map(); // reply → wall clock in ms at the arrival of its first audio
    this.audibleAt = 0; // wall clock in ms at which the reply that is playing became audible
  }

  get available() {
    return Boolean(this.starting);
  }

  /** Milliseconds from the rendering of a sample until it leaves the loudspeaker, as the browser reports it. */
  get latencyMs() {
    return 1000 * (this.context?.outputLatency || this.context?.baseLatency || 0);
  }

  /**
   * Milliseconds of a playing reply that were audible so far, of `played` rendered samples. No more than the time since it
   * became audible: a browser that has just started its audio renders the first tenths of a second at once.
   */
  heardMs(played) {
    return Math.max(0, Math.min((1000 * played) / this.rate - this.latencyMs, Date.now() - this.audibleAt));
  }

  /** Call it from a click or key press. Returns false without worklets (on an insecure page): then there is no sound. */
  async start() {
    if (!window.AudioWorkletNode) return false;
    this.starting ??= this.build();
    try {
      await this.starting;
    } catch (error) {
      this.starting = null;
      this.waiting = [];
      throw error;
    }
    if (this.context.state !== "running") await this.context.resume();
    return true;
  }

  async build() {
    const context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
    this.context = context;
    await context.audioWorklet.addModule(addressOf("web/worklets/playback.js"));
    const options = { numberOfInputs: 0, outputChannelCount: [1], processorOptions: { rate: this.rate } };
    const node = new AudioWorkletNode(context, "parley-playback", options);
    node.port.onmessage = ({ data }) => this.receive(data);
    node.connect(context.destination);
    this.node = node;
    for (const message of this.waiting.splice(0)) this.post(message);
  }

  post(message) {
    if (!this.node) this.waiting.length < WAITING_LIMIT && this.waiting.push(message);
    else if (message.pcm) this.node.port.postMessage(message, [message.pcm]);
    else this.node.port.postMessage(message);
  }

  /** `pcm` is an ArrayBuffer of s16le; it is transferred to the worklet. */
  push(reply, pcm) {
    if (!this.available) return;
    if (!this.arrivals.has(reply)) {
      this.arrivals.set(reply, Date.now());
      if (this.arrivals.size > ARRIVALS_KEPT) this.arrivals.delete(this.arrivals.keys().next().value);
    }
    this.post({ type: "audio", reply, pcm });
  }

  /** The reply has no more audio. */
  end(reply) {
    if (this.arrivals.has(reply)) this.post({ type: "end", reply });
    else this.onOver(reply, 0, false);
  }

  /** Stops now and discards all buffered audio. */
  clear() {
    if (this.available) this.post({ type: "clear" });
    this.sounding = null;
    this.level = 0;
  }

  /** Stops now and keeps the buffered audio; `resume` continues with the next sample. */
  pause() {
    if (this.available) this.post({ type: "pause" });
    this.level = 0;
  }

  resume() {
    if (this.available) this.post({ type: "resume" });
  }

  receive({ type, reply, played, at, total, peak, level }) {
    if (type === "started") {
      this.sounding = reply;
      const delayMs = Math.max(0, at - this.arrivals.get(reply)) + this.latencyMs; // the wall clock may be set back
      this.audibleAt = this.arrivals.get(reply) + delayMs;
      this.onStarted(reply, delayMs);
      return;
    }
    Object.assign(this, { total, peak, level });
    if (type === "progress" || type === "paused") {
      if (type === "progress") this.onProgress(reply, played);
      else this.onPaused(reply, played);
      return;
    }
    this.level = 0;
    if (this.sounding === reply) this.sounding = null;
    this.arrivals.delete(reply);
    this.onOver(reply, played, type === "cleared");
  }
}
