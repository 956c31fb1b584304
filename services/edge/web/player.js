/** The loudspeaker: hands reply audio to the playback worklet and tells what of it was really rendered. */

const REMEMBERED = 8; // replies whose arrival is kept; more than one is rare

const WAITING_MOST = 1_000; // messages; what comes after is not heard

export class Player {
  /**
   * Callbacks get the reply's key and samples at the rate of the wire:
   * `onStarted(reply, delayMs)`: from the arrival of its first audio until it is heard;
   * `onProgress(reply, played)`; `onPaused(reply, played)`; `onOver(reply, played, cleared)`.
   */
  constructor({ rate, onStarted, onProgress, onPaused, onOver }) {
    Object.assign(this, { rate, onStarted, onProgress, onPaused, onOver });
    this.total = 0;
    this.peak = 0;
    this.level = 0;
    this.sounding = null; // the reply that is being heard
    this.waiting = []; // messages to a worklet that is still being loaded: a quick reply comes before it
    this.arrivals = new Map(); // reply → context time at which its first audio arrived
  }

  get available() {
    return Boolean(this.starting);
  }

  /** Milliseconds from a sample's rendering until it leaves the loudspeaker, as far as the browser knows. */
  get latencyMs() {
    return 1000 * (this.context?.outputLatency || this.context?.baseLatency || 0);
  }

  /** To be called from a gesture of the person. Without worklets (an insecure page) there is no sound: returns false. */
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
    await context.audioWorklet.addModule("/web/worklets/playback.js");
    const options = { numberOfInputs: 0, outputChannelCount: [1], processorOptions: { rate: this.rate } };
    const node = new AudioWorkletNode(context, "parley-playback", options);
    node.port.onmessage = ({ data }) => this.receive(data);
    node.connect(context.destination);
    this.node = node;
    for (const message of this.waiting.splice(0)) this.post(message);
  }

  post(message) {
    if (!this.node) this.waiting.length < WAITING_MOST && this.waiting.push(message);
    else if (message.pcm) this.node.port.postMessage(message, [message.pcm]);
    else this.node.port.postMessage(message);
  }

  /** `pcm`: an ArrayBuffer of s16le, given away. */
  push(reply, pcm) {
    if (!this.available) return;
    if (!this.arrivals.has(reply)) {
      this.arrivals.set(reply, this.context.currentTime);
      if (this.arrivals.size > REMEMBERED) this.arrivals.delete(this.arrivals.keys().next().value);
    }
    this.post({ type: "audio", reply, pcm });
  }

  /** No more audio comes of this reply. */
  end(reply) {
    if (this.arrivals.has(reply)) this.post({ type: "end", reply });
    else this.onOver(reply, 0, false);
  }

  /** Silence now, and nothing more of what was pushed. */
  clear() {
    if (this.available) this.post({ type: "clear" });
    this.sounding = null;
    this.level = 0;
  }

  /** Silence now; what was pushed stays, and `resume` goes on with the next sample. */
  pause() {
    if (this.available) this.post({ type: "pause" });
    this.level = 0;
  }

  resume() {
    if (this.available) this.post({ type: "resume" });
  }

  receive({ type, reply, played, time, total, peak, level }) {
    if (type === "started") {
      this.sounding = reply;
      this.onStarted(reply, 1000 * (time - this.arrivals.get(reply)) + this.latencyMs);
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
