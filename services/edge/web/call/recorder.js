/** Records both sides of the conversation in this browser, the person on the left channel and the reply on the right one. */

const LONGEST_MS = 3_600_000;
const BITS_PER_SECOND = 64_000;
const SLICE_MS = 1_000;
const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

export class Recorder {
  /** `onChange()`: recording has begun or ended. */
  constructor({ onChange }) {
    this.onChange = onChange;
    this.chunks = [];
    this.wanted = false;
  }

  static get type() {
    return window.MediaRecorder ? TYPES.find((type) => MediaRecorder.isTypeSupported(type)) : undefined;
  }

  get recording() {
    return this.recorder?.state === "recording";
  }

  /** The reply, as a node of the player's context. */
  addReply(node, context) {
    if (this.context === context) return;
    this.context = context;
    this.merger = new ChannelMergerNode(context, { numberOfInputs: 2 });
    this.target = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
    this.merger.connect(this.target);
    node.connect(this.merger, 0, 1);
    if (this.microphone) this.addMicrophone(this.microphone);
    if (this.wanted) this.start();
  }

  addMicrophone(stream) {
    this.microphone = stream;
    if (!this.context) return;
    this.source?.disconnect();
    this.source = new MediaStreamAudioSourceNode(this.context, { mediaStream: stream });
    this.source.connect(this.merger, 0, 0);
  }

  /** Records from now on, or from the beginning of the next conversation. What was recorded before is dropped. */
  start() {
    this.wanted = true;
    this.chunks = [];
    if (this.target) {
      const recorder = new MediaRecorder(this.target.stream, { mimeType: Recorder.type, audioBitsPerSecond: BITS_PER_SECOND });
      recorder.addEventListener("dataavailable", ({ data }) => data.size && this.recorder === recorder && this.chunks.push(data));
      recorder.addEventListener("stop", () => this.onChange());
      this.recorder = recorder;
      recorder.start(SLICE_MS);
      this.timer = setTimeout(() => this.stop(), LONGEST_MS);
    }
    this.onChange();
  }

  stop() {
    this.wanted = false;
    clearTimeout(this.timer);
    if (this.recording) this.recorder.stop();
    else this.onChange();
  }

  /** What was recorded so far; null if nothing was. */
  get blob() {
    return this.chunks.length ? new Blob(this.chunks, { type: Recorder.type }) : null;
  }
}
