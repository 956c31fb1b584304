/** The event log: a panel for developers with the messages of the connection. It is drawn only while it is open. */

import { contentOf, jsonLines } from "./frames.js";
import { make } from "../elements.js";
import { bytes, exactClock } from "../format.js";

const DRAW_MS = 250;
const SHOWN = 300; // the newest
const NO_AUDIO = "no audio";

export class EventLog {
  constructor(panel, opener, frames) {
    Object.assign(this, { panel, opener, frames });
    this.list = panel.querySelector("ol");
    this.filter = panel.querySelector("select");
    this.note = panel.querySelector("[role=status]");
    this.rows = new Map(); // key of an entry → its row
    this.timer = null;
    const on = (selector, handle) => panel.querySelector(selector).addEventListener("click", handle);
    opener.addEventListener("click", () => this.toggle(panel.hidden));
    on(".close", () => this.toggle(false));
    on(".copy", () => this.copy());
    on(".save", () => this.save());
    on(".clear", () => this.clear());
    this.filter.addEventListener("change", () => this.redraw());
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // elsewhere Escape stops the reply
      this.toggle(false);
    });
  }

  toggle(open) {
    this.panel.hidden = !open;
    this.opener.setAttribute("aria-expanded", open);
    clearInterval(this.timer);
    this.timer = open ? setInterval(() => this.draw(), DRAW_MS) : null;
    if (!open) {
      this.opener.focus();
      return;
    }
    this.redraw();
    this.panel.scrollIntoView({ block: "nearest" });
    this.filter.focus();
  }

  get chosen() {
    const wanted = this.filter.value;
    if (wanted === NO_AUDIO) return this.frames.list.filter(({ kind }) => kind !== "audio");
    return wanted ? this.frames.list.filter(({ kind }) => kind === wanted) : this.frames.list;
  }

  redraw() {
    this.rows.clear();
    this.list.replaceChildren();
    this.note.textContent = "";
    this.draw();
    this.list.scrollTop = this.list.scrollHeight;
  }

  draw() {
    this.offerKinds();
    const isAtEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    const shown = this.chosen.slice(-SHOWN);
    const oldest = shown[0]?.key ?? Infinity;
    for (const [key, row] of this.rows) {
      if (key >= oldest) break;
      row.remove();
      this.rows.delete(key);
    }
    for (const entry of shown) {
      if (!this.rows.has(entry.key)) this.add(entry);
      else if (entry.kind === "audio") this.rows.get(entry.key).querySelector(".content").textContent = summary(entry);
    }
    if (isAtEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  add(entry) {
    const row = make("li", { class: entry.from }, entry.kind === "audio" ? head("div", entry) : unfolding(entry));
    this.rows.set(entry.key, row);
    this.list.append(row);
  }

  /** Adds the kinds of message that have come since. */
  offerKinds() {
    const known = new Set([...this.filter.options].map(({ value }) => value));
    const kinds = new Set(this.frames.list.map(({ kind }) => kind).filter((kind) => !known.has(kind)));
    for (const kind of kinds) this.filter.append(make("option", { value: kind }, kind));
  }

  async copy() {
    const { chosen } = this;
    const done = await navigator.clipboard?.writeText(jsonLines(chosen)).then(() => true, () => false);
    this.note.textContent = done ? `${chosen.length} messages copied` : "This browser does not allow copying here";
  }

  save() {
    const url = URL.createObjectURL(new Blob([jsonLines(this.chosen)], { type: "application/jsonl" }));
    make("a", { href: url, download: `Parley ${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.jsonl` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 0);
  }

  clear() {
    this.frames.clear();
    this.redraw();
  }
}

/** The row of a message: one line that opens to its JSON. */
function unfolding(entry) {
  const details = make("details", {}, head("summary", entry));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(make("pre", {}, JSON.stringify(contentOf(entry), null, 2)));
  });
  return details;
}

function head(tag, entry) {
  const { at, from, kind } = entry;
  return make(
    tag,
    {},
    make("time", { datetime: new Date(at).toISOString() }, exactClock(at)),
    make("span", { class: "from", title: `sent by the ${from}` }, from === "client" ? "↑" : "↓", make("span", { class: "visually-hidden" }, ` ${from}`)),
    make("span", { class: "kind" }, kind),
    make("span", { class: "content" }, summary(entry)),
  );
}

function summary(entry) {
  if (entry.kind !== "audio") return entry.text;
  return `${entry.messages} messages, ${bytes(entry.bytes)}`;
}
