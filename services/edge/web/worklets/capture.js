/** Capture worklet, in the audio thread: collects the microphone's samples into s16le chunks at the wanted rate, with their peak. */

import { Resampler } from "./resample.js";

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    const { rate, chunkMs } = processorOptions;
    this.resampler = sampleRate === rate ? null : new Resampler(sampleRate, rate);
    this.size = (rate * chunkMs) / 1000;
    this.begin();
  }

  begin() {
    this.chunk = new Int16Array(this.size);
    this.filled = 0;
    this.peak = 0;
  }

  process([[input]]) {
    if (input) for (const sample of this.resampler ? this.resampler.process(input) : input) this.take(sample);
    return true;
  }

  take(sample) {
    const level = Math.abs(sample);
    if (level > this.peak) this.peak = level;
    this.chunk[this.filled] = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    this.filled += 1;
    if (this.filled < this.size) return;
    this.port.postMessage({ pcm: this.chunk.buffer, peak: Math.min(1, this.peak) }, [this.chunk.buffer]);
    this.begin();
  }
}

registerProcessor("parley-capture", Capture);
