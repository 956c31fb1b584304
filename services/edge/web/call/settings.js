/** The settings panel: what this person wants of a conversation, kept in the browser; sent when one starts. */

import { isWell, stageName } from "/web/call/errors.js";

const KEY = "parley.settings";
const FALLBACK = { endpoint_ms: 500, speed: 1 };
const CHECK_TIMEOUT_MS = 10_000;

export class Settings {
  constructor(dialog, onSave) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.outcome = dialog.querySelector("#check-outcome");
    this.defaults = { ...FALLBACK };
    this.chosen = stored();
    this.form.addEventListener("input", () => this.label());
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

  /** Asks the server what there is to choose; an older or half-started one may not say. */
  async load() {
    const response = await fetch("/config").catch(() => null);
    const config = response?.ok ? await response.json().catch(() => ({})) : {};
    for (const [name, value] of Object.entries(config.defaults ?? {})) {
      if (name in FALLBACK && Number.isFinite(value)) this.defaults[name] = value;
    }
    this.offer(config.voices ?? []);
    const engines = Object.entries(config.engines ?? {}).map(([stage, engine]) => `${stage} ${engine?.name ?? engine}`);
    this.dialog.querySelector("#engines").textContent = engines.length ? `Engines: ${engines.join(" · ")}` : "";
  }

  offer(voices) {
    const names = voices.map((voice) => (typeof voice === "string" ? voice : (voice.id ?? voice.name)));
    if (this.chosen.voice && !names.includes(this.chosen.voice)) names.unshift(this.chosen.voice);
    const select = this.form.elements.voice;
    select.replaceChildren(new Option("The server's default", ""), ...names.map((name) => new Option(name, name)));
  }

  show() {
    this.fill(this.chosen);
    this.outcome.replaceChildren();
    this.dialog.showModal();
  }

  fill(values) {
    const { voice, endpoint_ms: endpoint, speed, instructions, language, greeting, push } = this.form.elements;
    voice.value = values.voice ?? "";
    language.value = values.language ?? "";
    greeting.value = values.greeting ?? "";
    push.checked = values.detect_turns === false;
    endpoint.value = values.endpoint_ms ?? this.defaults.endpoint_ms;
    speed.value = values.speed ?? this.defaults.speed;
    instructions.value = values.instructions ?? "";
    this.label();
  }

  read() {
    const { voice, endpoint_ms: endpoint, speed, instructions, language, greeting, push } = this.form.elements;
    const values = {
      voice: voice.value,
      language: language.value.trim(),
      greeting: greeting.value.trim(),
      detect_turns: push.checked ? false : "",
      endpoint_ms: endpoint.valueAsNumber,
      speed: speed.valueAsNumber,
      instructions: instructions.value.trim(),
    };
    const differs = ([name, value]) => value !== "" && value !== this.defaults[name];
    return Object.fromEntries(Object.entries(values).filter(differs));
  }

  label() {
    const { endpoint_ms: endpoint, speed } = this.form.elements;
    this.form.querySelector("#endpoint-value").textContent = `${endpoint.value} ms`;
    this.form.querySelector("#speed-value").textContent = `${Number(speed.value).toFixed(2)} ×`;
  }

  async check() {
    this.outcome.replaceChildren(line("Checking…"));
    try {
      const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
      const { ok, stages = {} } = await (await fetch("/test-connection", { method: "POST", signal })).json();
      const told = Object.entries(stages).map(([stage, value]) => line(stageName(stage), isWell(value), value?.error));
      this.outcome.replaceChildren(...told, line(ok ? "Everything is ready." : "Not everything is ready.", ok));
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
