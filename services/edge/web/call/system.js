/** Which models speak with the person: a line on the voice panel, and a dialog that says how to use better ones. */

import { find, make, setText } from "../elements.js";
import { ask } from "../server.js";

const RETRY_MS = 2_000; // a server that is starting has no workers yet

/** Engines without a model, by their names for people. */
const ENGINES = {
  eliza: "Eliza",
  espeak: "eSpeak NG",
  f5: "F5-TTS",
  scripted: "scripted",
  silero: "Silero",
  sphinx: "PocketSphinx",
  webrtc: "WebRTC",
};
const TASKS = { asr: "Speech recognition", llm: "Replies", tts: "Voice", vad: "Voice detection" };

/** What a person should know about an engine before the first word: otherwise the page seems to be broken. */
const LIMITS = {
  eliza: "a program of 1966. It turns your own words around, knows nothing, and ignores instructions.",
  sphinx: "a recogniser of an older kind. About one word in four is wrong.",
};

const BETTER = [
  ["Ollama, vLLM, llama.cpp, LM Studio or a hosted model writes the replies:", "PARLEY_LLM_URL=http://127.0.0.1:11434/v1 make run"],
  ["Larger models on this machine, best with a GPU:", "make run PROFILE=neural"],
];
const LIGHT = ["Small neural models on the processor:", "make run"];

export class System {
  constructor() {
    this.line = find("models");
    this.dialog = find("about-models");
    this.profile = "";
    this.stages = {};
    this.line.addEventListener("click", () => this.open());
  }

  /** Asks the server until each stage has said what it runs. */
  async load() {
    const response = await ask("v1/system").catch(() => null);
    if (response?.status === 404) return;
    const system = response?.ok ? await response.json().catch(() => ({})) : {};
    this.stages = system.stages ?? {};
    this.profile = system.profile ?? "";
    this.monitor = Boolean(system.monitor);
    this.show();
    const complete = Object.keys(TASKS).every((stage) => this.stages[stage]?.engine);
    if (!complete) setTimeout(() => this.load(), RETRY_MS);
  }

  show() {
    const names = ["asr", "llm", "tts"].map((stage) => modelOf(this.stages[stage])).filter(Boolean);
    setText(this.line.firstElementChild, names.join(" · "));
    this.line.hidden = !names.length;
    const limit = LIMITS[this.stages.llm?.engine];
    setText(find("limits"), limit ? `The replies come from ${modelOf(this.stages.llm)}, ${limit}` : "");
    find("limits").hidden = !limit;
  }

  open() {
    const rows = Object.entries(TASKS).filter(([stage]) => this.stages[stage]?.engine);
    const entries = rows.flatMap(([stage, task]) => [make("dt", {}, task), described(this.stages[stage])]);
    find("model-list").replaceChildren(...entries);
    find("monitor-link").hidden = !this.monitor;
    const better = this.profile === "classic" ? [LIGHT, ...BETTER] : BETTER;
    find("better-models").replaceChildren(...better.flatMap(([text, command]) => [make("p", {}, text), commandLine(command)]));
    this.dialog.showModal();
  }
}

function modelOf(stage) {
  return stage?.models?.join(", ") || (ENGINES[stage?.engine] ?? stage?.engine ?? "");
}

function described(stage) {
  const parts = [stage.models?.length && `engine ${stage.engine}`, LIMITS[stage.engine], stage.endpointing && `end of a turn: ${stage.endpointing}`];
  const note = parts.filter(Boolean).join("; ");
  return make("dd", {}, modelOf(stage), note ? make("small", {}, note[0].toUpperCase() + note.slice(1)) : null);
}

/** A line to run in a terminal, with a button that copies it where the browser allows that. */
function commandLine(command) {
  const copy = make("button", { type: "button", class: "plain" }, "Copy");
  copy.setAttribute("aria-label", `Copy ${command}`);
  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command).catch(() => {});
    setText(copy, "Copied");
  });
  return make("div", { class: "command" }, make("code", {}, command), copy);
}
