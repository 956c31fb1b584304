/** What the page has received of its session: with it, the session is resumed after a lost connection. Pure. */

const SAMPLE_BYTES = 2;

export class Received {
  constructor() {
    this.forget();
  }

  /** The next session is a new one. */
  forget() {
    this.token = "";
    this.n = 0; // number of the newest event
    this.turn = 0; // of the newest reply
    this.samples = 0; // of the audio of that reply
  }

  audio(pcm) {
    this.samples += pcm.byteLength / SAMPLE_BYTES;
  }

  message({ type, n, turn, resume, resumed }) {
    if (type === "ready") {
      if (!resumed) this.forget();
      this.token = resume?.token ?? "";
    } else if (type === "reply_started") {
      this.turn = turn;
      this.samples = 0;
    }
    this.n = n ?? this.n;
  }

  /** What `start_streaming` says besides. */
  get fields() {
    const { token, n, turn, samples } = this;
    return token ? { resume: token, received: { n, turn, samples } } : {};
  }
}
