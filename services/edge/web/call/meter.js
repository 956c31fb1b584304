/** Draws the levels of microphone and reply: a strip of bars that moves from right to left, and the level meter. */

const BAR_MS = 40;
const BAR_PX = 3;
const GAP_PX = 2;
const STILL_MS = 250; // between two frames if the person prefers reduced motion
const FLOOR_DB = -54;

/** Converts an amplitude, 0..1, to a height, 0..1, on a decibel scale: loudness is perceived logarithmically. */
export function height(amplitude) {
  if (amplitude <= 0) return 0;
  return Math.max(0, Math.min(1, 1 - (20 * Math.log10(amplitude)) / FLOOR_DB));
}

export class Meter {
  /** `levels()` returns {microphone, reply}: the peak amplitudes since its last call. */
  constructor({ canvas, bar, orb, levels }) {
    Object.assign(this, { canvas, bar, orb, levels });
    this.history = [];
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.lastMs = 0;
    this.running = false;
  }

  start() {
    if (this.running) return;
    this.running = true;
    requestAnimationFrame((now) => this.tick(now));
  }

  stop() {
    this.running = false;
    this.history = [];
    this.show(0, 0);
    this.draw();
  }

  tick(nowMs) {
    if (!this.running) return;
    requestAnimationFrame((now) => this.tick(now));
    if (nowMs - this.lastMs < (this.still.matches ? STILL_MS : BAR_MS)) return;
    this.lastMs = nowMs;
    const { microphone, reply } = this.levels();
    const level = { microphone: height(microphone), reply: height(reply) };
    this.history.push(level);
    this.show(level.microphone, Math.max(level.microphone, level.reply));
    this.draw();
  }

  show(microphone, any) {
    this.bar.firstElementChild.style.transform = `scaleX(${microphone.toFixed(3)})`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * microphone));
    this.orb.style.setProperty("--level", this.still.matches ? 0 : any.toFixed(3));
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, tall] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = tall * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const paint = (name) => {
      canvas.style.color = `var(${name})`; // resolved for the theme, unlike the value of a custom property
      return style.color;
    };
    const colours = { still: paint("--line-strong"), reply: paint("--speaking"), microphone: paint("--listening") };
    const count = Math.floor((width + GAP_PX) / (BAR_PX + GAP_PX));
    this.history = this.history.slice(-count);
    for (let place = 0; place < count; place += 1) {
      const { microphone, reply } = this.history[this.history.length - 1 - place] ?? { microphone: 0, reply: 0 };
      const loud = Math.max(microphone, reply);
      const size = Math.max(BAR_PX, loud * tall);
      pen.fillStyle = loud < 0.04 ? colours.still : reply >= microphone ? colours.reply : colours.microphone;
      pen.beginPath();
      pen.roundRect(width - (place + 1) * (BAR_PX + GAP_PX) + GAP_PX, (tall - size) / 2, BAR_PX, size, BAR_PX / 2);
      pen.fill();
    }
  }
}
