/**
 * A streaming sample-rate converter for the audio thread, used only if the browser does not give the requested rate
 * (Firefox keeps a microphone at the rate of its device).
 *
 * Polyphase windowed-sinc interpolation (Blackman window), one filter for each phase.
 */

const HALF_WIDTH = 12; // zero crossings on each side: stop band near -70 dB, delay 0.75 ms at 16 kHz
const PASS = 0.92; // pass band as a share of the lower Nyquist frequency; the rest is the transition band

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

export class Resampler {
  constructor(from, to) {
    const common = gcd(from, to);
    this.up = to / common;
    this.down = from / common;
    const cutoff = PASS * Math.min(1, to / from);
    this.reach = Math.ceil(HALF_WIDTH / cutoff);
    this.filters = Array.from({ length: this.up }, (_, phase) => lowPass(cutoff, this.reach, phase / this.up));
    this.history = new Float32Array(2 * this.reach); // silence before the first sample
    this.phase = 0; // of the next output sample, in 1/up of an input sample after history[reach - 1]
  }

  /** Returns the output samples that are complete, and keeps the input that later ones need. */
  process(input) {
    const data = new Float32Array(this.history.length + input.length);
    data.set(this.history);
    data.set(input, this.history.length);
    const width = 2 * this.reach;
    const output = [];
    let at = 0;
    while (at + width <= data.length - 1) {
      const filter = this.filters[this.phase];
      let sum = 0;
      for (let tap = 0; tap < width; tap += 1) sum += filter[tap] * data[at + tap];
      output.push(sum);
      this.phase += this.down;
      at += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.history = data.slice(at);
    return Float32Array.from(output);
  }
}

/** The taps of a filter that interpolates at `fraction` of a sample after tap number `reach - 1`. */
function lowPass(cutoff, reach, fraction) {
  const taps = new Float32Array(2 * reach);
  let total = 0;
  for (let tap = 0; tap < taps.length; tap += 1) {
    const x = tap - (reach - 1) - fraction;
    const window = 0.42 + 0.5 * Math.cos((Math.PI * x) / reach) + 0.08 * Math.cos((2 * Math.PI * x) / reach);
    const sinc = x === 0 ? cutoff : Math.sin(Math.PI * cutoff * x) / (Math.PI * x);
    taps[tap] = Math.abs(x) >= reach ? 0 : sinc * window;
    total += taps[tap];
  }
  return taps.map((value) => value / total);
}
