/** Draws the response times: the waterfall of one turn, a track for each turn, the median and the slowest of the spoken ones. */

import { marksOf, segmentsOf } from "./turns.js";
import { summary, total } from "./waterfall.js";
import { duration } from "../format.js";
import { addressOf, ask } from "../server.js";
import { SEGMENTS, axisOf, describe, isPrepared, took, track, turnEnd } from "../waterfall.js";

const KEPT_ROWS = 50;

export class Timing {
  constructor(panel) {
    this.panel = panel;
    this.headline = panel.querySelector("#timing-headline");
    this.table = panel.querySelector("#waterfall");
    this.reasons = panel.querySelector("#endpoint-reasons");
    this.prepared = panel.querySelector("#prepared");
    this.rows = panel.querySelector("#turn-bars");
    this.monitor = panel.querySelector("#monitor-times");
    this.pinned = null; // the turn that the person selected; null: the newest
    this.turns = [];
    this.rows.addEventListener("click", ({ target }) => this.choose(target.closest("button")));
  }

  /** Redraws everything; called a few times in a turn. `session`: the id under which the monitor has the turns. */
  update(turns, session = null) {
    const timed = turns.filter((turn) => turn.segments.length);
    if (timed.length > this.turns.length) this.pinned = null;
    this.turns = timed;
    this.panel.classList.toggle("empty", !timed.length);
    const spoken = timed.filter((turn) => turn.spoken).map((turn) => total(marksOf(turn)));
    this.headline.textContent = headline(summary(spoken.filter((ms) => ms !== null)));
    if (!timed.length) return;
    const chosen = timed.includes(this.pinned) ? this.pinned : timed.at(-1);
    this.drawWaterfall(chosen);
    this.drawRows(chosen);
    if (session) this.link(session);
  }

  /** Links to this conversation in the monitor, if it is open to this person. */
  async link(session) {
    this.monitor.href = addressOf(`monitor/sessions/${session}`);
    this.isOpen ??= ask("config").then((response) => response.json()).then(({ monitor }) => monitor).catch(() => false);
    this.monitor.hidden = !(await this.isOpen);
  }

  choose(button) {
    if (!button) return;
    this.pinned = this.turns[Number(button.dataset.index)];
    this.update(this.turns);
    this.rows.querySelector(`[data-index="${button.dataset.index}"]`)?.focus();
  }

  drawWaterfall(turn) {
    const segments = segmentsOf(turn);
    const end = axisOf(segments);
    this.table.caption.textContent = `${titleOf(turn, this.turns.indexOf(turn))}: ${startOf(turn)}`;
    this.table.tBodies[0].replaceChildren(...segments.map((part) => segmentRow(part, segments, end)));
    this.table.tFoot.rows[0].cells[1].textContent = duration(total(marksOf(turn)));
    this.reasons.textContent = `Endpoint: ${turn.reasons.join(" · ")}`;
    this.reasons.hidden = !turn.reasons.length;
    this.prepared.hidden = !segments.some((part) => isPrepared(part, segments));
  }

  drawRows(chosen) {
    const end = axisOf(this.turns.flatMap(segmentsOf));
    const row = (turn, index) => {
      const item = element("li");
      item.append(turnButton(turn, index, end, turn === chosen));
      return item;
    };
    this.rows.replaceChildren(...this.turns.map(row).slice(-KEPT_ROWS).reverse());
  }
}

function headline({ n, p50, slow }) {
  if (!n) return "";
  const turns = n === 1 ? "1 spoken turn" : `${n} spoken turns`;
  return n === 1 ? `${duration(p50)} · ${turns}` : `p50 ${duration(p50)} · ${slow.name} ${duration(slow.ms)} · ${turns}`;
}

const titleOf = (turn, index) => (turn.spoken ? `Turn ${index + 1}` : `Turn ${index + 1}, ${turn.typed ? "typed" : "not spoken"}`);

function startOf(turn) {
  if (turn.spoken) return "time since the end of speech";
  return turn.typed ? "time since the text was sent" : "time since the reply was asked for";
}

function segmentRow(part, segments, end) {
  const { label, about } = SEGMENTS.get(part.name);
  const row = element("tr");
  const head = element("th", label);
  head.scope = "row";
  head.className = `stage ${part.name}`;
  head.title = isPrepared(part, segments) ? `${about}; prepared while you were silent` : about;
  const drawing = element("td");
  drawing.className = "drawing";
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(track([part], end, ...turnEnd(segments, end)));
  row.append(head, drawing, element("td", duration(took(part))), element("td", duration(part.end_ms)));
  return row;
}

function turnButton(turn, index, end, isChosen) {
  const segments = segmentsOf(turn);
  const waited = duration(total(marksOf(turn)));
  const button = element("button");
  button.type = "button";
  button.dataset.index = index;
  button.setAttribute("aria-pressed", isChosen);
  button.setAttribute("aria-label", `${titleOf(turn, index)}: ${waited}. ${describe(segments)}`);
  const number = element("span", index + 1);
  if (!turn.spoken) number.append(element("small", turn.typed ? " typed" : ""));
  button.append(number, track(segments, end, ...turnEnd(segments, end)), element("span", waited));
  return button;
}

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
