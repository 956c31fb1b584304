/**
 * Playback worklet, in the audio thread: a ring buffer of samples that is played without clicks.
 *
 * A reply starts when START_MS of it is buffered, to absorb network jitter. After an underrun there is silence, and the
 * next start waits for a little more audio. Every start is faded in; at an underrun or a `clear` the last samples are
 * faded out. Positions are samples since the page was opened, at the context's rate; reports are in samples at the
 * rate of the wire.
 *
 * Times are of the wall clock, which page and audio thread share. The audio clock does not serve: while the first worklet
 * of a context starts, `currentTime` in it is up to 160 ms behind the page's, and a reply seemed to play before it arrived.
 *
 * In:  {type: "audio", reply, pcm}, {type: "end", reply}, {type: "clear"}, {type: "pause"}, {type: "resume"}.
 * Out: {type: "started", reply, at},
 *      {type: "progress" | "paused" | "drained" | "cleared", reply, played, total, peak, level}.
 */

import { Resampler } from "./resample.js";

const START_MS = 50;
const START_GROWTH_MS = 15; // after each underrun
const START_LIMIT_MS = 140;
const FADE_MS = 8;
const REPORT_MS = 50;

class Playback extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.rate = processorOptions.rate;
    this.ring = new Float32Array(2 ** 17);
    this.written = 0;
    this.read = 0;
    this.replies = []; // {reply, start, ended, begun}: replies with samples in the ring, in order
    this.resampler = null;
    this.playing = false;
    this.paused = false;
    this.startMs = START_MS;
    this.gain = 0;
    this.step = 1000 / (FADE_MS * sampleRate);
    this.tail = new Float32Array(0); // the fade-out after a `clear` or a `pause`
    this.total = 0;
    this.peak = 0;
    this.level = 0;
    this.sinceReport = 0;
    this.port.onmessage = ({ data }) => this.receive(data);
  }

  receive(message) {
    if (message.type === "audio") this.append(message.reply, new Int16Array(message.pcm));
    else if (message.type === "end") this.end(message.reply);
    else if (message.type === "clear") this.clear();
    else if (message.type === "pause") this.pause();
    else if (message.type === "resume") this.paused = false;
  }

  append(reply, pcm) {
    const last = this.replies.at(-1);
    if (last?.reply !== reply) {
      if (last) last.ended = true;
      this.replies.push({ reply, start: this.written, ended: false, begun: false });
      this.resampler = sampleRate === this.rate ? null : new Resampler(this.rate, sampleRate);
    }
    let samples = Float32Array.from(pcm, (value) => value / 32768);
    if (this.resampler) samples = this.resampler.process(samples);
    this.grow(this.written - this.read + samples.length);
    const mask = this.ring.length - 1;
    for (const sample of samples) this.ring[this.written++ & mask] = sample;
  }

  grow(needed) {
    if (needed <= this.ring.length) return;
    const larger = new Float32Array(2 ** Math.ceil(Math.log2(needed)));
    for (let at = this.read; at < this.written; at += 1) {
      larger[at & (larger.length - 1)] = this.ring[at & (this.ring.length - 1)];
    }
    this.ring = larger;
  }

  end(reply) {
    const last = this.replies.at(-1);
    if (last?.reply === reply) last.ended = true;
    else this.report("drained", reply, 0); // no audio of it ever arrived
  }

  clear() {
    this.paused = false;
    const current = this.replies[0];
    if (!current) return;
    this.fadeOut();
    this.read += this.tail.length;
    this.total += this.tail.length;
    this.report("cleared", current.reply, this.read - current.start);
    this.read = this.written;
    this.replies = [];
  }

  /** Fades to silence. The ring keeps its samples, and `resume` continues with the next one. */
  pause() {
    this.paused = true;
    const current = this.replies[0];
    if (!current) return;
    this.fadeOut();
    if (current.begun) this.report("paused", current.reply, this.read - current.start);
  }

  /** Copies the next samples into a fade-out without consuming them. */
  fadeOut() {
    const length = this.playing ? Math.min(this.written - this.read, Math.ceil(this.gain / this.step)) : 0;
    this.tail = new Float32Array(length);
    for (let at = 0; at < length; at += 1) {
      this.gain -= this.step;
      this.tail[at] = Math.max(0, this.gain) * this.ring[(this.read + at) & (this.ring.length - 1)];
    }
    this.playing = false;
    this.gain = 0;
  }

  process(_inputs, [[out]]) {
    const faded = Math.min(this.tail.length, out.length);
    for (let at = 0; at < faded; at += 1) out[at] = this.tail[at];
    if (faded) this.tail = this.tail.subarray(faded);
    const queued = this.written - this.read;
    const enough = queued >= (this.startMs * sampleRate) / 1000 || this.replies.at(-1)?.ended;
    if (!this.playing && !this.paused && queued && enough) this.playing = true;
    if (this.playing) this.render(out);
    this.removeFinished();
    this.sinceReport += out.length;
    if (this.sinceReport >= (REPORT_MS * sampleRate) / 1000 && this.replies[0]?.begun) {
      this.report("progress", this.replies[0].reply, this.read - this.replies[0].start);
    }
    return true;
  }

  render(out) {
    this.announce(Math.min(this.read + out.length, this.written));
    const mask = this.ring.length - 1;
    let at = 0;
    for (; at < out.length && this.read < this.written; at += 1, this.read += 1) {
      this.gain = Math.min(1, this.gain + this.step, (this.written - this.read) * this.step);
      const sample = this.gain * this.ring[this.read & mask];
      out[at] += sample;
      const level = Math.abs(sample);
      if (level > this.level) this.level = level;
    }
    this.peak = Math.max(this.peak, this.level);
    this.total += at;
    if (this.read < this.written) return;
    this.playing = false;
    this.gain = 0;
    if (!this.replies.at(-1).ended) this.startMs = Math.min(START_LIMIT_MS, this.startMs + START_GROWTH_MS);
  }

  /** Reports the replies whose first sample is before the position `until` as started. */
  announce(until) {
    for (const entry of this.replies) {
      if (entry.begun || entry.start >= until) continue;
      entry.begun = true;
      const at = Date.now() + (1000 * (entry.start - this.read)) / sampleRate;
      this.port.postMessage({ type: "started", reply: entry.reply, at });
    }
  }

  /** Removes the replies that were played to their end, and reports them as drained. */
  removeFinished() {
    for (;;) {
      const [first, next] = this.replies;
      const finished = next ? this.read >= next.start : first?.ended && this.read === this.written;
      if (!finished) return;
      this.report("drained", first.reply, (next?.start ?? this.written) - first.start);
      this.replies.shift();
    }
  }

  report(type, reply, played) {
    const toWire = (samples) => Math.round((samples * this.rate) / sampleRate);
    const { peak, level } = this;
    this.port.postMessage({ type, reply, played: toWire(played), total: toWire(this.total), peak, level });
    this.level = 0;
    this.sinceReport = 0;
  }
}

registerProcessor("parley-playback", Playback);
