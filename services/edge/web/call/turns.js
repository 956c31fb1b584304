/**
 * The turns of the conversation, built from the server's events. Pure: no DOM, no clock, no audio.
 *
 * Each session of the server numbers its turns from 1, so after a reconnect a number means another turn. A typed turn is
 * shown before the server has given it a number; it gets its number from the first event that can only be about it.
 */

const CHARACTERS_PER_SECOND = 14; // spoken English; replaced by the measured rate after the first reply

export class Turns {
  constructor() {
    this.list = [];
    this.numbered = new Map();
    this.unnumbered = []; // typed turns without a number from the server
    this.charactersPerSecond = CHARACTERS_PER_SECOND;
    this.keys = 0;
  }

  /** Typed turns that were not sent yet. */
  get unsent() {
    return this.unnumbered.filter((turn) => !turn.sent);
  }

  /** A new session numbers its turns from 1 again. Returns the typed turns that were never sent. */
  newSession() {
    this.numbered.clear();
    this.unnumbered = this.unsent;
    return this.unsent;
  }

  forget() {
    this.list = [];
    this.newSession();
    this.unnumbered = [];
  }

  typed(text) {
    const turn = this.add({ typed: true, user: text, userFinal: true });
    this.unnumbered.push(turn);
    return turn;
  }

  add(fields) {
    this.keys += 1;
    const turn = {
      key: this.keys, number: null, typed: false, sent: false, user: "", userFinal: false,
      reply: "", replying: false, done: false, playedToEnd: false, status: "", reason: "",
      heard: null, received: 0, played: 0, shown: 0, spoken: false, serverMarks: {}, segments: [], reasons: [], playDelayMs: null, ...fields,
    }; // prettier-ignore
    this.list.push(turn);
    return turn;
  }

  /** The turn that a server event is about. */
  of(event) {
    const known = this.numbered.get(event.turn);
    if (known) return known;
    const turn = this.adopted(event) ?? this.add({});
    turn.number = event.turn;
    this.numbered.set(event.turn, turn);
    return turn;
  }

  adopted(event) {
    const [oldest] = this.unnumbered;
    if (!oldest?.sent) return null;
    if (event.type === "processing_started" && event.audio_duration > 0) return null;
    if (event.type === "transcript" && event.text.trim() !== oldest.user.trim()) return null;
    return this.unnumbered.shift();
  }

  known(number) {
    return this.numbered.get(number);
  }

  byKey(key) {
    return this.list.findLast((turn) => turn.key === key);
  }

  /** Earlier turns without transcript or reply: noise that was first detected as speech. */
  abandoned(turn) {
    return this.list.filter((other) => other.number !== null && other.number < turn.number && isEmpty(other));
  }

  remove(turn) {
    this.list.splice(this.list.indexOf(turn), 1);
    this.numbered.delete(turn.number);
  }

  /** Measures the speaking rate of the voice on a reply that was played to its end. */
  learnPace(turn, rate) {
    if (turn.received > rate / 2) this.charactersPerSecond = (turn.reply.length * rate) / turn.received;
  }

  /** How many characters of the reply were spoken so far, to the end of a word; never decreases. */
  revealed(turn, rate) {
    // After an interruption the server's text is exact: it knows the time of each word.
    if (turn.heard !== null && turn.reply.startsWith(turn.heard)) return turn.heard.length;
    turn.shown = Math.max(turn.shown, this.reached(turn, rate));
    return Math.min(turn.shown, turn.reply.length);
  }

  reached(turn, rate) {
    const { reply, received, played, done, status } = turn;
    if (done && status !== "interrupted" && played >= received) return reply.length;
    if (played === 0) return 0;
    const perSample = done && status !== "interrupted" ? reply.length / received : this.charactersPerSecond / rate;
    const end = reply.indexOf(" ", Math.round(played * perSample));
    return end < 0 ? reply.length : end;
  }
}

const isEmpty = (turn) => !turn.userFinal && !turn.replying && !turn.typed;

/** The server's marks of a turn, and `played`: when the first audio left the loudspeaker, which only the page knows. */
export function marksOf(turn) {
  const { first_audio: firstAudio } = turn.serverMarks;
  if (firstAudio === undefined || turn.playDelayMs === null) return { ...turn.serverMarks };
  return { ...turn.serverMarks, played: firstAudio + turn.playDelayMs };
}

/** Where the turn's time went: what the server measured, and the playback. */
export function segmentsOf(turn) {
  const { first_audio: sent, played } = marksOf(turn);
  return played === undefined ? turn.segments : [...turn.segments, { name: "played", begin_ms: sent, end_ms: played }];
}
