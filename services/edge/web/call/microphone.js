/** The microphone: asks for permission and delivers chunks of 20 ms as s16le. */

import { addressOf } from "../server.js";

const CHUNK_MS = 20;

/** `code` is insecure, denied, missing, busy or failed. */
export class MicrophoneError extends Error {
  constructor(code, cause) {
    super(code, { cause });
    this.code = code;
  }
}

const CODES = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

export class Microphone {
  /** `onChunk(pcm, peak)` gets an ArrayBuffer and its level 0..1; `onEnded()` is called when the device disappears. */
  constructor({ rate, raw = false, onChunk, onEnded }) {
    Object.assign(this, { rate, raw, onChunk, onEnded });
    this.wanted = false;
    this.isMuted = false;
    this.device = ""; // empty: the system's choice
  }

  get open() {
    return Boolean(this.node);
  }

  get muted() {
    return this.isMuted;
  }

  /** A muted microphone still sends silence: the server measures the silence at the end of a turn in samples. */
  set muted(value) {
    this.isMuted = value;
    for (const track of this.stream?.getTracks() ?? []) track.enabled = !value;
  }

  /** Asks for permission and starts. Throws MicrophoneError. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) throw new MicrophoneError("insecure");
    this.wanted = true;
    try {
      const clean = !this.raw;
      const audio = { channelCount: 1, echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean };
      if (this.device) audio.deviceId = { ideal: this.device }; // another one if it is not connected
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      if (!this.wanted) return stopTracks(stream);
      this.stream = stream;
      this.muted = this.isMuted;
      for (const track of stream.getTracks()) track.addEventListener("ended", () => this.lost());
      await this.connect(stream);
    } catch (error) {
      this.stop();
      throw new MicrophoneError(CODES[error.name] ?? "failed", error);
    }
  }

  async connect(stream) {
    let source;
    this.context = new AudioContext({ sampleRate: this.rate, latencyHint: "interactive" });
    try {
      source = this.context.createMediaStreamSource(stream);
    } catch {
      await this.context.close(); // Firefox: a stream has the rate of its device; the worklet resamples it
      this.context = new AudioContext({ latencyHint: "interactive" });
      source = this.context.createMediaStreamSource(stream);
    }
    const { context } = this;
    await context.audioWorklet.addModule(addressOf("web/worklets/capture.js"));
    if (!this.wanted) return;
    const node = new AudioWorkletNode(context, "parley-capture", {
      numberOfOutputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { rate: this.rate, chunkMs: CHUNK_MS },
    });
    node.port.onmessage = ({ data }) => this.onChunk(data.pcm, data.peak);
    source.connect(node).connect(context.destination); // its output is silence, but an unconnected node would not run
    this.node = node;
    if (context.state !== "running") await context.resume();
  }

  lost() {
    if (!this.wanted) return;
    this.stop();
    this.onEnded();
  }

  stop() {
    this.wanted = false;
    if (this.node) this.node.port.onmessage = null;
    this.node = null;
    if (this.stream) stopTracks(this.stream);
    this.stream = null;
    if (this.context && this.context.state !== "closed") this.context.close();
    this.context = null;
  }
}

function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}
