/** Draws the response times: the waterfall of one turn, a stacked bar for each turn, p50 and p95. */

import { marksOf } from "/web/call/turns.js";
import { STAGES, bars, summary, total } from "/web/call/waterfall.js";
import { axis, duration } from "/web/format.js";

const KEPT_ROWS = 50;

export class Timing {
  constructor(panel) {
    this.panel = panel;
    this.headline = panel.querySelector("#timing-headline");
    this.table = panel.querySelector("#waterfall");
    this.count = panel.querySelector("#turn-count");
    this.rows = panel.querySelector("#turn-bars");
    this.pinned = null; // the turn that the person selected; null: the newest
    this.turns = [];
    this.rows.addEventListener("click", ({ target }) => this.choose(target.closest("button")));
  }

  /** Redraws everything; called a few times in a turn. */
  update(turns) {
    const timed = turns.filter((turn) => bars(marksOf(turn)).length);
    if (timed.length > this.turns.length) this.pinned = null;
    this.turns = timed;
    this.panel.classList.toggle("empty", !timed.length);
    const figures = summary(timed.map(marksOf));
    const { p50, p95, n } = figures.total;
    this.headline.textContent = n ? `p50 ${duration(p50)} · p95 ${duration(p95)}` : "";
    this.count.textContent = timed.length === 1 ? "1 turn" : `${timed.length} turns, newest first`;
    if (!timed.length) return;
    const chosen = timed.includes(this.pinned) ? this.pinned : timed.at(-1);
    this.drawWaterfall(chosen, figures);
    this.drawRows(chosen);
  }

  choose(button) {
    if (!button) return;
    this.pinned = this.turns[Number(button.dataset.index)];
    this.update(this.turns);
    this.rows.querySelector(`[data-index="${button.dataset.index}"]`)?.focus();
  }

  drawWaterfall(turn, figures) {
    const marks = marksOf(turn);
    const passed = new Map(bars(marks).map((bar) => [bar.name, bar]));
    const end = axis(Math.max(...[...passed.values()].map((bar) => bar.end)));
    this.table.caption.textContent = turn.typed ? "Since the text was sent" : "Since the end of speech";
    this.table.tBodies[0].replaceChildren(
      ...STAGES.map((stage) => stageRow(stage, passed.get(stage.name), figures[stage.name], end)),
    );
    const sum = this.table.tFoot.rows[0];
    const cells = [total(marks), figures.total.p50, figures.total.p95].map(duration);
    cells.forEach((text, index) => (sum.cells[index + 1].textContent = text));
  }

  drawRows(chosen) {
    const end = axis(Math.max(...this.turns.flatMap((turn) => bars(marksOf(turn))).map((bar) => bar.end)));
    const row = (turn, index) => {
      const item = element("li");
      item.append(turnButton(turn, index, this.turns.length, end, turn === chosen));
      return item;
    };
    this.rows.replaceChildren(...this.turns.map(row).slice(-KEPT_ROWS).reverse());
  }
}

function stageRow(stage, bar, figures, end) {
  const row = element("tr");
  const head = element("th", stage.label);
  head.scope = "row";
  head.className = `stage ${stage.name}`;
  head.title = stage.about;
  const track = element("div");
  track.className = "track";
  if (bar) track.append(segment(bar, end));
  const drawing = element("td");
  drawing.className = "drawing";
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(track);
  const figure = (value) => element("td", value === undefined ? "–" : duration(value));
  row.append(head, drawing, figure(bar?.duration), figure(figures?.p50), figure(figures?.p95));
  return row;
}

function turnButton(turn, index, count, end, isChosen) {
  const marks = marksOf(turn);
  const button = element("button");
  button.type = "button";
  button.dataset.index = index;
  button.setAttribute("aria-pressed", isChosen);
  const parts = bars(marks).map((bar) => `${bar.label} ${duration(bar.duration)}`);
  button.setAttribute("aria-label", `Turn ${index + 1} of ${count}: ${duration(total(marks))}. ${parts.join(", ")}`);
  const track = element("span");
  track.className = "track";
  track.append(...bars(marks).map((bar) => segment(bar, end)));
  button.append(element("span", index + 1), track, element("span", duration(total(marks))));
  return button;
}

function segment({ name, start, end: until }, end) {
  const part = element("span");
  part.className = `segment ${name}`;
  part.style.left = `${(100 * start) / end}%`;
  part.style.width = `${(100 * (until - start)) / end}%`;
  return part;
}

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
