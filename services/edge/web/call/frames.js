/**
 * What went over the connection: the newest messages in both directions. Pure.
 *
 * Adding one is cheap, because it happens for every 20 ms of audio: nothing is parsed. Audio is counted by the second.
 */

const KEPT = 1_000; // entries; with audio both ways they last for minutes
const AUDIO_MS = 1_000;
const TYPE = /^\{"type":\s*"(\w+)"/; // both sides write the type first
const SECRET = /("(?:token|resume)":)"[^"]*"/; // whoever has it can take over the conversation

export class Frames {
  constructor() {
    this.list = []; // {key, at, from, kind, text} or {…, kind: "audio", messages, bytes}
    this.keys = 0;
    this.audio = {}; // by direction: the entry that counts the audio now
  }

  /** `from`: "client" or "server"; `data`: the text or the audio; `at`: wall clock in ms. */
  add(from, data, at = Date.now()) {
    if (typeof data === "string") this.push({ at, from, kind: TYPE.exec(data)?.[1] ?? "?", text: data.replace(SECRET, '$1"…"') });
    else this.count(from, data.byteLength, at);
  }

  count(from, bytes, at) {
    if (!(at - this.audio[from]?.at < AUDIO_MS)) this.audio[from] = this.push({ at, from, kind: "audio", messages: 0, bytes: 0 });
    this.audio[from].messages += 1;
    this.audio[from].bytes += bytes;
  }

  push(entry) {
    this.keys += 1;
    this.list.push({ key: this.keys, ...entry });
    if (this.list.length > KEPT) this.list.shift();
    return this.list.at(-1);
  }

  clear() {
    this.list = [];
    this.audio = {};
  }
}

/** The message of an entry as an object; audio as its size. */
export function contentOf(entry) {
  if (entry.kind === "audio") return { messages: entry.messages, bytes: entry.bytes };
  try {
    return JSON.parse(entry.text);
  } catch {
    return entry.text;
  }
}

/** Entries as JSON Lines: time, sender, and `message` or `audio`. */
export function jsonLines(entries) {
  const line = (entry) => {
    const { at, from, kind } = entry;
    return JSON.stringify({ at: new Date(at).toISOString(), from, [kind === "audio" ? "audio" : "message"]: contentOf(entry) });
  };
  return entries.map((entry) => `${line(entry)}\n`).join("");
}
