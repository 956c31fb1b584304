/** "Save": the transcript as text or JSON, and a recording, as files. */

import { heard } from "./said.js";
import { Recorder } from "./recorder.js";
import { marksOf } from "./turns.js";
import { find, make, setText } from "../elements.js";

export class Keep {
  /** `turns()`: those of the conversation. */
  constructor({ turns }) {
    this.turns = turns;
    this.times = new WeakMap(); // turn → when it began
    this.recorder = new Recorder({ onChange: () => this.show() });
    find("open-keep").addEventListener("click", () => this.open());
    find("save-text").addEventListener("click", () => save("txt", "text/plain", this.asText()));
    find("save-json").addEventListener("click", () => save("json", "application/json", this.asJson()));
    find("record").addEventListener("click", () => this.toggle());
    find("save-audio").addEventListener("click", () => saveBlob(extensionOf(this.recorder.blob), this.recorder.blob));
    find("recording").hidden = !Recorder.type;
    this.show();
  }

  /** A turn has begun, or goes on. */
  note(turn) {
    if (!this.times.has(turn)) this.times.set(turn, new Date());
  }

  open() {
    this.show();
    for (const id of ["save-text", "save-json"]) find(id).disabled = !this.turns().length;
    find("keep").showModal();
  }

  toggle() {
    if (this.recorder.wanted) this.recorder.stop();
    else this.recorder.start();
  }

  show() {
    const { recording, wanted, blob } = this.recorder;
    setText(find("record"), wanted ? "Stop recording" : "Record");
    find("record").setAttribute("aria-pressed", wanted);
    find("save-audio").disabled = !blob || recording;
    const state = recording ? "Recording." : wanted ? "Recording begins with the conversation." : blob ? "Recorded." : "";
    setText(find("record-state"), state);
    document.body.classList.toggle("recording", recording);
  }

  asText() {
    const lines = this.turns().flatMap((turn) => [
      turn.user.trim() && `[${this.clock(turn)}] You: ${turn.user.trim()}`,
      turn.reply && `[${this.clock(turn)}] Parley: ${spoken(turn)}`,
    ]);
    return `${lines.filter(Boolean).join("\n")}\n`;
  }

  asJson() {
    const turns = this.turns().map((turn) => ({
      at: this.times.get(turn)?.toISOString(), typed: turn.typed, user: turn.user, reply: turn.reply,
      heard: heard(turn), status: turn.status || null, marks_ms: marksOf(turn),
    })); // prettier-ignore
    return JSON.stringify({ turns }, null, 2);
  }

  clock(turn) {
    return this.times.get(turn)?.toTimeString().slice(0, 8) ?? "";
  }
}

/** The reply, with a mark where it was interrupted. */
function spoken(turn) {
  const text = heard(turn).trim();
  return text.length < turn.reply.trim().length ? `${text} — (interrupted)` : text;
}

const extensionOf = ({ type }) => (type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm");

const save = (extension, type, text) => saveBlob(extension, new Blob([text], { type: `${type};charset=utf-8` }));

function saveBlob(extension, blob) {
  const url = URL.createObjectURL(blob);
  const stamp = new Date().toISOString().slice(0, 16).replace("T", " ").replace(":", ".");
  make("a", { href: url, download: `Parley ${stamp}.${extension}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
