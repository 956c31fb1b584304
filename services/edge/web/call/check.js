/** "Check the connection" in the settings: what the server says of each stage, and the verdict. */

import { isWell, stageName } from "./errors.js";
import { make } from "../elements.js";
import { ask } from "../server.js";

const TIMEOUT_MS = 10_000;

export class Check {
  constructor(button, outcome) {
    this.outcome = outcome;
    button.addEventListener("click", () => this.run());
  }

  clear() {
    this.outcome.replaceChildren();
  }

  /** The verdict comes first: it is what the person wants to know. */
  async run() {
    this.outcome.replaceChildren(line("Checking…"));
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const { ok, stages = {}, error } = await (await ask("test-connection", { method: "POST", signal }, { again: true })).json();
      const lines = Object.entries(stages).map(([stage, value]) => line(stageName(stage), isWell(value), value?.error));
      this.outcome.replaceChildren(line(error?.message ?? (ok ? "Everything is ready." : "Not everything is ready."), Boolean(ok)), ...lines);
    } catch {
      this.outcome.replaceChildren(line("The server did not answer.", false));
    }
  }
}

function line(text, well, error) {
  const kind = well === undefined ? null : well ? "well" : "ill";
  return make("li", { class: kind }, error ? `${text}: ${error}` : text);
}
