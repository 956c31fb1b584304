/** Draws the conversation: one item for the person's message and one for the reply. Texts are set with textContent, never as HTML. */

import { marksOf } from "/web/call/turns.js";
import { total } from "/web/call/waterfall.js";
import { duration } from "/web/format.js";

const NOTES = {
  interrupted: "interrupted",
  cancelled: "stopped",
  failed: "no reply, because of an error",
};

export class Transcript {
  constructor(list, end) {
    Object.assign(this, { list, end });
    this.items = new Map(); // turn → {user, reply}
    this.following = true; // the newest line is in view: scroll to keep it there
    new IntersectionObserver(([entry]) => (this.following = entry.isIntersecting), { rootMargin: "0px 0px 120px" }).observe(
      end,
    );
  }

  /** Draws a turn; `revealed` is how many characters of its reply were spoken. */
  update(turn, revealed) {
    const follow = this.following;
    const items = this.items.get(turn) ?? {};
    this.items.set(turn, items);
    if (turn.user || turn.userFinal) this.drawUser(turn, (items.user ??= this.append("user", "You")));
    if (turn.reply || turn.done) this.drawReply(turn, revealed, (items.reply ??= this.append("reply", "Parley")));
    if (follow) this.end.scrollIntoView({ block: "end" });
  }

  drawUser(turn, item) {
    const silent = turn.userFinal && !turn.user.trim();
    item.classList.toggle("partial", !turn.userFinal);
    item.classList.toggle("silent", silent);
    item.text.textContent = silent ? "no words recognized" : turn.user;
  }

  drawReply(turn, revealed, item) {
    const [said, coming] = item.text.children.length ? item.text.children : split(item.text);
    said.textContent = turn.reply.slice(0, revealed);
    coming.textContent = turn.reply.slice(revealed);
    coming.className = turn.status === "interrupted" || turn.status === "cancelled" ? "unheard" : "coming";
    const marks = marksOf(turn);
    const notes = [NOTES[turn.status], total(marks) === null ? "" : duration(total(marks))].filter(Boolean);
    item.note.textContent = notes.join(" · ");
    item.hidden = !turn.reply && !NOTES[turn.status];
  }

  append(kind, speaker) {
    const item = document.createElement("li");
    item.className = kind;
    item.innerHTML = '<span class="visually-hidden"></span><p></p><small></small>'; // fixed markup, no data
    const [name, text, note] = item.children;
    name.textContent = `${speaker}: `;
    this.list.append(item);
    return Object.assign(item, { text, note });
  }

  divider(text) {
    const item = document.createElement("li");
    item.className = "divider";
    item.textContent = text;
    this.list.append(item);
  }

  remove(turn) {
    const { user, reply } = this.items.get(turn) ?? {};
    user?.remove();
    reply?.remove();
    this.items.delete(turn);
  }

  clear() {
    this.list.replaceChildren();
    this.items.clear();
  }
}

function split(paragraph) {
  paragraph.append(document.createElement("span"), document.createElement("span"));
  paragraph.lastChild.className = "coming";
  return paragraph.children;
}
