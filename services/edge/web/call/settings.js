/** The settings panel: what this person wants of a conversation, kept in the browser; sent when one starts. */

import { Check } from "./check.js";
import { Control } from "./control.js";
import { linkTo, parsed } from "./link.js";
import { store, stored } from "./preferences.js";
import { playPreview } from "./preview.js";
import { LanguageControl, VoiceControl } from "./voice_controls.js";
import { make, setText } from "../elements.js";
import { ask } from "../server.js";

const KEY = "parley.settings";
const GROUPS = [
  ["Conversation", ["instructions", "greeting"]],
  ["Language and voice", ["language", "voice", "speed"]],
];
const OTHERS = "Taking turns";

export class Settings {
  /**
   * `texts`: settings of a link, by name. `agent()`: the id that a link carries. `onSave()`: what was chosen has changed.
   * `onNotice(text, actions)`: something to tell the person.
   */
  constructor(dialog, { texts, agent, onSave, onNotice }) {
    Object.assign(this, { dialog, texts, agent, onSave, onNotice });
    this.form = dialog.querySelector("form");
    this.controls = [];
    this.chosen = stored(KEY);
    this.complete = false; // the voices of the server are known
    this.check = new Check(dialog.querySelector("#check"), dialog.querySelector("#check-outcome"));
    this.link = dialog.querySelector("#settings-link");
    for (const type of ["input", "change"]) this.form.addEventListener(type, () => this.controls.forEach((control) => control.label()));
    this.form.addEventListener("submit", (event) => event.submitter?.value === "save" && this.save());
    dialog.querySelector("#settings-defaults").addEventListener("click", () => this.fill({}));
    dialog.querySelector("#copy-link").addEventListener("click", () => this.copyLink());
  }

  /** What `start_streaming` carries: only what differs from the server's defaults. */
  get config() {
    return { ...this.chosen };
  }

  /** Asks the server for its settings and voices. A server that is starting may not have them yet. */
  async load() {
    const [config, { voices = [] }, { stages = {} }] = await Promise.all(["config", "v1/voices", "v1/system"].map(json));
    const usable = voices.filter((voice) => voice.usable);
    this.complete = usable.length > 0;
    const rows = (config.settings ?? []).filter((setting) => setting.label);
    const edited = this.dialog.open ? this.read() : null; // what the person is changing while the answer comes
    if (rows.length) this.build(rows, usable, stages.asr?.languages ?? []);
    this.fill(edited ?? this.chosen);
  }

  build(rows, voices, recognized) {
    this.controls = [];
    const grouped = new Set(GROUPS.flatMap(([, names]) => names));
    const rest = rows.map(({ name }) => name).filter((name) => !grouped.has(name));
    const sections = [...GROUPS, [OTHERS, rest]].map(([title, names]) => {
      const controls = names.map((name) => rows.find((row) => row.name === name)).filter(Boolean);
      return make("fieldset", {}, make("legend", {}, title), ...controls.map((row) => this.add(row, voices, recognized)));
    });
    this.dialog.querySelector("#setting-controls").replaceChildren(...sections);
    this.keepAccepted();
    this.applyLink();
  }

  /** The language comes before the voice, which depends on it. */
  add(row, voices, recognized) {
    let control = null;
    if (row.name === "language" && voices.some(({ language }) => language)) control = new LanguageControl(row, { voices, recognized });
    if (row.name === "voice" && voices.length) {
      const { choices, ...setting } = row;
      const preview = (voice) => playPreview({ voice, language: this.control("language").value, speed: this.control("speed").value });
      const language = this.control("language") instanceof LanguageControl ? this.control("language") : null;
      control = new VoiceControl(setting, { voices, language, preview });
    }
    control = (control ?? new Control(row)).begin();
    this.controls.push(control);
    return control.element;
  }

  /** Forgets what this server would refuse, and says so: a voice of another engine, a number out of range. */
  keepAccepted() {
    for (const [name, value] of Object.entries(this.chosen)) {
      if (!this.control(name)) delete this.chosen[name]; // of another version
      else if (!this.control(name).accepts(value)) this.forget(name);
    }
  }

  /** The server does not accept this setting: the default holds from now on. */
  forget(name) {
    const value = this.chosen[name];
    if (value === undefined) return;
    delete this.chosen[name];
    store(KEY, this.chosen);
    this.fill(this.chosen);
    const label = this.control(name)?.setting.label ?? name;
    this.onNotice(`${label} “${value}” does not exist here any more. The default is used instead.`, [["Settings", () => this.show()]]);
  }

  /** The settings of a link hold for this visit, until the person keeps them. */
  applyLink() {
    const linked = Object.entries(this.texts).map(([name, text]) => [name, this.fromLink(name, text)]);
    this.texts = {};
    if (!linked.length) return;
    const good = linked.filter(([, value]) => value !== undefined);
    const bad = linked.filter(([, value]) => value === undefined).map(([name]) => name);
    const labels = good.map(([name]) => this.control(name).setting.label.split(".")[0]);
    const before = this.chosen;
    const undo = () => {
      this.chosen = before;
      this.onSave();
    };
    this.chosen = { ...before, ...Object.fromEntries(good) };
    const sets = labels.length ? `This link sets ${labels.join(", ")}, for this visit.` : "";
    const fails = bad.length ? `Not possible here: ${bad.join(", ")}.` : "";
    this.onNotice(`${sets} ${fails}`.trim(), sets ? [["Keep", () => store(KEY, this.chosen)], ["Undo", undo]] : []);
  }

  fromLink(name, text) {
    const control = this.control(name);
    const value = control && parsed(text, control.setting);
    return control?.accepts(value) ? value : undefined;
  }

  show() {
    if (!this.complete) this.load();
    this.fill(this.chosen);
    this.check.clear();
    this.link.hidden = true;
    this.dialog.showModal();
  }

  save() {
    const before = JSON.stringify(this.chosen);
    this.chosen = this.read();
    store(KEY, this.chosen);
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    if (JSON.stringify(this.chosen) !== before) this.onSave();
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

  /** Copies the link, and shows it: on an insecure page the browser does not copy. */
  async copyLink() {
    const link = linkTo(this.agent(), this.read());
    const copied = await navigator.clipboard?.writeText(link).then(() => true, () => false);
    this.link.hidden = false;
    setText(this.link.querySelector("span"), copied ? "Copied. Whoever opens it gets these settings." : "Whoever opens it gets these settings:");
    const input = this.link.querySelector("input");
    input.value = link;
    input.select();
  }
}

async function json(path) {
  const response = await ask(path).catch(() => null);
  return response?.ok ? response.json().catch(() => ({})) : {};
}
