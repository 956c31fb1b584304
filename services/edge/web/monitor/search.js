/** The search for past conversations: by words that were said, by id, by outcome. Asks when the person does, not once a second. */

import { clock, day } from "../format.js";
import { emptyState, figure, make, sessionLink, table } from "./elements.js";
import { problem, request } from "./poll.js";

export function connectSearch() {
  const form = document.getElementById("search");
  const ask = () => search(new URLSearchParams(new FormData(form)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  form.elements.outcome.addEventListener("change", ask);
  ask();
}

async function search(query) {
  const body = document.querySelector("#past .body");
  try {
    const { response, body: found } = await request(`monitor/conversations?${query}`);
    body.replaceChildren(...(response.ok ? results(found, query) : [emptyState(problem(response, found))]));
  } catch {
    body.replaceChildren(emptyState("The server does not answer."));
  }
}

function results({ conversations, count, searched_turns: searched, masked, turns_kept_h: keptH }, query) {
  document.getElementById("past-note").textContent = `turns are kept for ${keptH} h; as of ${clock(Date.now())}`;
  const note = masked ? maskedNote() : null;
  if (!conversations.length) {
    const isFiltered = query.get("find") || query.get("outcome");
    const text = isFiltered ? `No conversation matches, among ${searched} turns.` : "No conversation is kept yet. One is listed here when its first turn has ended.";
    return [note, emptyState(text)].filter(Boolean);
  }
  const headings = ["Conversation", "Protocol", "Last turn", ">Turns", [">Slow", "Turns with a late first audio"], ">Interrupted", ">Failed", masked ? "" : "What was said"];
  const rest = count > conversations.length ? emptyState(`${count - conversations.length} older conversations match too.`) : null;
  return [note, table("Past conversations", headings, conversations.map(row)), rest].filter(Boolean);
}

function row(one) {
  const said = make("td", { class: "texts" }, one.said && make("q", {}, one.said), one.reply && make("span", {}, one.reply));
  return make("tr", {}, make("th", { scope: "row" }, sessionLink(one.id)), make("td", {}, one.protocol),
    make("td", { class: "when" }, `${day(one.last_ms)} ${clock(one.last_ms)}`),
    figure(String(one.turns)), figure(String(one.slow)), figure(String(one.interrupted)),
    figure(String(one.failed), { class: one.failed ? "figure bad" : "figure" }), said); // prettier-ignore
}

/** Where texts are hidden: which setting shows them. */
export const maskedNote = () =>
  make("p", { class: "note" }, "What was said is not kept. To see and search it, start Parley with ", make("code", {}, "PARLEY_LOG_CONTENT=true"), ".");
