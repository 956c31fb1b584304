/** The settings panel: what this person wants of a conversation, kept in the browser; sent when one starts. */

import { Control } from "/web/call/control.js";
import { isWell, stageName } from "/web/call/errors.js";

const KEY = "parley.settings";
const CHECK_TIMEOUT_MS = 10_000;

export class Settings {
  constructor(dialog, onSave) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.outcome = dialog.querySelector("#check-outcome");
    this.controls = [];
    this.chosen = stored();
    this.form.addEventListener("input", () => this.controls.forEach((control) => control.label()));
    this.form.addEventListener("submit", (event) => {
      if (event.submitter?.value !== "save") return;
      const before = JSON.stringify(this.chosen);
      this.chosen = this.read();
      localStorage.setItem(KEY, JSON.stringify(this.chosen));
      if (JSON.stringify(this.chosen) !== before) onSave();
    });
    dialog.querySelector("#settings-defaults").addEventListener("click", () => this.fill({}));
    dialog.querySelector("#check").addEventListener("click", () => this.check());
  }

  /** What `start_streaming` carries: only what differs from the server's defaults. */
  get config() {
    return { ...this.chosen };
  }

  /** Ask the server for the settings: names, texts, ranges and defaults. A server that is starting may not have them. */
  async load() {
    const response = await fetch("/config").catch(() => null);
    const config = response?.ok ? await response.json().catch(() => ({})) : {};
    if (config.settings) {
      this.controls = config.settings.filter((setting) => setting.label).map((setting) => new Control(setting));
      this.chosen = Object.fromEntries(
        Object.entries(this.chosen).filter(([name, value]) => this.control(name)?.accepts(value)),
      );
    }
    this.dialog.querySelector("#setting-controls").replaceChildren(...this.controls.map((control) => control.element));
    this.fill(this.chosen);
    const engines = Object.entries(config.engines ?? {}).map(([stage, engine]) => `${stage} ${engine?.name ?? engine}`);
    this.dialog.querySelector("#engines").textContent = engines.length ? `Engines: ${engines.join(" · ")}` : "";
  }

  show() {
    this.fill(this.chosen);
    this.outcome.replaceChildren();
    this.dialog.showModal();
  }

  control(name) {
    return this.controls.find((control) => control.setting.name === name);
  }

  fill(values) {
    for (const control of this.controls) control.value = values[control.setting.name] ?? control.setting.default;
  }

  read() {
    const chosen = this.controls.filter((control) => control.chosen !== undefined);
    return Object.fromEntries(chosen.map((control) => [control.setting.name, control.chosen]));
  }

  async check() {
    this.outcome.replaceChildren(line("Checking…"));
    try {
      const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
      const { ok, stages = {} } = await (await fetch("/test-connection", { method: "POST", signal })).json();
      const lines = Object.entries(stages).map(([stage, value]) => line(stageName(stage), isWell(value), value?.error));
      this.outcome.replaceChildren(...lines, line(ok ? "Everything is ready." : "Not everything is ready.", ok));
    } catch {
      this.outcome.replaceChildren(line("The server did not answer.", false));
    }
  }
}

function line(text, well, error) {
  const item = document.createElement("li");
  item.textContent = error ? `${text}: ${error}` : text;
  if (well !== undefined) item.className = well ? "well" : "ill";
  return item;
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // another version's, or storage is blocked
  }
}
