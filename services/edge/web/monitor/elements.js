/** Builds the elements of the monitor pages: tables, tiles, gauges, links. */

import { make } from "../elements.js";
import { addressOf } from "../server.js";

export { make };

const drawn = new Map(); // id of a card → its data as JSON

/** Redraws a card if its data changed. Keyboard focus stays on the same link. */
export function draw(id, data, render) {
  const text = JSON.stringify(data);
  if (drawn.get(id) === text) return;
  drawn.set(id, text);
  const body = document.querySelector(`#${id} .body`) ?? document.getElementById(id);
  const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  body.replaceChildren(...[render(data)].flat());
  if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

export const emptyState = (text) => make("p", { class: "empty-state" }, text);

/** One figure with its label; `title` explains it. */
export const tile = (label, value, { bad = false, title = null } = {}) =>
  make("div", { class: bad ? "tile bad" : "tile", title }, make("span", { class: "label" }, label), make("span", { class: "value" }, value));

/**
 * A table. A heading is a text, or a text with its explanation; one that begins with ">" is right-aligned, for a column of
 * figures.
 */
export function table(label, headings, rows) {
  const head = headings.map((heading) => {
    const [text, title] = [heading].flat();
    return make("th", { scope: "col", class: text.startsWith(">") ? "figure" : null, title }, text.replace(/^>/, ""));
  });
  const caption = make("caption", { class: "visually-hidden" }, label);
  return make("table", {}, caption, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

export const figure = (text, attributes = {}) => make("td", { class: "figure", ...attributes }, text);

/** A bar that is filled to `share`, 0 to 1. */
export function gauge(share, label) {
  const level = make("span", {});
  level.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return make("span", { class: share >= 0.9 ? "gauge high" : "gauge", role: "img", "aria-label": label }, level);
}

/** Facts with their names: [name, bar or "", text, explanation]. */
export function factList(facts) {
  const entries = facts.map(([name, bar, text, title]) => make("div", { title }, make("dt", {}, name), make("dd", {}, bar, ` ${text}`)));
  return make("dl", {}, ...entries);
}

export const sessionLink = (id, text = id.slice(0, 8)) =>
  make("a", { href: addressOf(`monitor/sessions/${encodeURIComponent(id)}`), title: `Conversation ${id}` }, text);
