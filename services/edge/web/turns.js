/**
 * The conversation as the page knows it: turns, built from the server's events. Pure: no DOM, no clock, no audio.
 *
 * The server numbers the turns of one session from its own beginning, so a turn is known by the session's epoch and
 * its number. A typed turn is shown before the server has given it a number and gets it with the first event that
 * can only be about it.
 */

const CHARACTERS_PER_SECOND = 14; // of spoken English, until replies of this session were measured

export class Turns {
  constructor() {
    this.list = [];
    this.numbered = new Map();
    this.unnumbered = []; // typed, not yet named by the server
    this.charactersPerSecond = CHARACTERS_PER_SECOND;
    this.keys = 0;
  }

  /** The server counts from the beginning again. Returns what was typed but never sent. */
  newSession() {
    this.numbered.clear();
    this.unnumbered = this.unnumbered.filter((turn) => !turn.sent);
    return [...this.unnumbered];
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
      reply: "", replying: false, done: false, heardOut: false, status: "",
      heard: null, received: 0, played: 0, shown: 0, serverMarks: {}, playDelayMs: null, ...fields,
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

  /** Turns before this one of which nothing came: noise that was taken for speech at first. */
  abandoned(turn) {
    return this.list.filter((other) => other.number !== null && other.number < turn.number && isEmpty(other));
  }

  remove(turn) {
    this.list.splice(this.list.indexOf(turn), 1);
    this.numbered.delete(turn.number);
  }

  /** Learns the pace of the voice from a reply that was played to its end. */
  learnPace(turn, rate) {
    if (turn.received > rate / 2) this.charactersPerSecond = (turn.reply.length * rate) / turn.received;
  }

  /** How much of the reply's text was spoken so far, to the end of a word; never less than before. */
  revealed(turn, rate) {
    // Where it was interrupted the server knows best: it has the times of the words.
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

/** The marks of a turn with the one that only the page can know: when the reply was first heard. */
export function marksOf(turn) {
  const { first_audio: firstAudio } = turn.serverMarks;
  if (firstAudio === undefined || turn.playDelayMs === null) return { ...turn.serverMarks };
  return { ...turn.serverMarks, played: firstAudio + turn.playDelayMs };
}
