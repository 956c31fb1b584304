/** Draws the conversation: one item for the person's message and one for the reply. Texts never become HTML. */

import { ReplyText } from "./reply_text.js";
import { marksOf } from "./turns.js";
import { total } from "./waterfall.js";
import { make, setText } from "../elements.js";
import { duration } from "../format.js";

const NOTES = {
  interrupted: "interrupted",
  cancelled: "stopped",
  failed: "no reply, because of an error",
};
const CUT = new Set(["interrupted", "cancelled"]);
const ENDED_EARLY = {
  max_output_tokens: "cut off: it reached the longest length of a reply",
  content_filter: "cut off by a filter of the language model",
};

export class Transcript {
  /** `follow` keeps what is spoken in view. `language()`: what the conversation is held in. */
  constructor(list, { follow, language }) {
    Object.assign(this, { list, follow, language });
    this.items = new Map(); // turn → {user, reply}
    this.newest = null;
  }

  /** Draws a turn; `revealed` is how many characters of its reply were spoken. */
  update(turn, revealed) {
    if (!this.items.has(turn)) this.newest = turn;
    const items = this.items.get(turn) ?? {};
    this.items.set(turn, items);
    if (turn.user || turn.userFinal) this.drawUser(turn, (items.user ??= this.append("user", "You")));
    if (turn.reply || turn.done) this.drawReply(turn, revealed, (items.reply ??= this.append("reply", "Parley")));
    if (turn === this.newest) this.follow.keep(() => (CUT.has(turn.status) ? null : (items.reply?.words?.voiceAt ?? null)));
  }

  drawUser(turn, item) {
    const silent = turn.userFinal && !turn.user.trim();
    item.classList.toggle("partial", !turn.userFinal);
    item.classList.toggle("silent", silent);
    item.line ??= item.text.appendChild(make("p", { dir: "auto" }));
    setText(item.line, silent ? "no words recognized" : turn.user);
  }

  drawReply(turn, revealed, item) {
    item.words ??= new ReplyText(item.text);
    item.words.update(turn.reply, revealed, CUT.has(turn.status));
    const marks = marksOf(turn);
    const cut = turn.status === "completed" ? ENDED_EARLY[turn.reason] : "";
    const notes = [NOTES[turn.status], cut, total(marks) === null ? "" : duration(total(marks))].filter(Boolean);
    setText(item.note, notes.join(" · "));
    item.hidden = !turn.reply && !NOTES[turn.status];
  }

  append(kind, speaker) {
    const text = make("div", { class: "text", lang: this.language() || null });
    const note = make("small");
    const item = make("li", { class: kind }, make("span", { class: "visually-hidden" }, `${speaker}: `), text, note);
    this.list.append(item);
    return Object.assign(item, { text, note });
  }

  divider(text) {
    this.list.append(make("li", { class: "divider" }, text));
    this.follow.keep(() => null);
  }

  remove(turn) {
    const { user, reply } = this.items.get(turn) ?? {};
    user?.remove();
    reply?.remove();
    this.items.delete(turn);
  }

  /** Empties the list. Returns what brings everything back. */
  clear() {
    const [nodes, { items }] = [[...this.list.childNodes], this];
    this.list.replaceChildren();
    this.items = new Map();
    return () => {
      this.list.replaceChildren(...nodes);
      this.items = items;
    };
  }
}
