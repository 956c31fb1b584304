/** What the reply passes on its way out: the volume, and the choice of a device. */

import { preference } from "./preferences.js";

export class Loudspeaker {
  constructor() {
    this.level = preference("volume", 1);
    this.device = preference("speaker");
  }

  static get canChoose() {
    return "setSinkId" in (window.AudioContext?.prototype ?? {});
  }

  /** Puts the volume between a source and the loudspeaker. */
  attach(source, context) {
    if (this.source === source) return;
    this.source = source;
    this.context = context;
    this.gain = new GainNode(context, { gain: this.level });
    source.disconnect();
    source.connect(this.gain).connect(context.destination);
    this.choose(this.device);
  }

  set volume(level) {
    this.level = level;
    if (this.gain) this.gain.gain.value = level;
  }

  /** Uses this device. If it has been unplugged, the system chooses. */
  async choose(device) {
    this.device = device;
    if (this.context && Loudspeaker.canChoose) await this.context.setSinkId(device).catch(() => {});
  }
}
