/** The controls of language and voice: two lists that depend on each other, made from the voices that the server has. */

import { Control } from "./control.js";
import { baseOf, fullName, languageName, tagOf, voiceName } from "./languages.js";
import { make, setText } from "../elements.js";

const SEARCHED = 24; // a longer list of voices has a search field

/** The language: one that some voice speaks. */
export class LanguageControl extends Control {
  /** `voices`: name, kind and language of each; `recognized`: the languages of the recogniser, empty if it does not say. */
  constructor(setting, { voices, recognized }) {
    super(setting, make("select"));
    this.recognized = recognized;
    this.note = make("small", { class: "note", hidden: true });
    this.element.append(this.note);
    const bases = new Set(voices.filter(({ language }) => language).map(({ language }) => baseOf(language)));
    const options = [...bases].map((base) => new Option(fullName(base), base));
    this.input.append(...options.sort((one, other) => one.text.localeCompare(other.text)));
  }

  get value() {
    return this.input.value;
  }

  /** A tag with a region is a choice of its own. */
  set value(tag) {
    if (!this.has(tag)) this.input.prepend(new Option(fullName(tag), tag));
    this.input.value = tag;
    this.label();
  }

  has(tag) {
    return [...this.input.options].some(({ value }) => value === tag);
  }

  accepts(tag) {
    return super.accepts(tag) && (this.has(tag) || this.has(baseOf(tag)));
  }

  label() {
    const missing = this.recognized.length > 0 && !this.recognized.includes(baseOf(this.value));
    const known = this.recognized.map(languageName).join(", ");
    setText(this.note, missing ? `Only ${known} is recognised from speech here. ${languageName(this.value)} can be typed.` : "");
    this.note.hidden = !missing;
  }
}

/** The voice: those of the language, grouped by region, with a preview. */
export class VoiceControl extends Control {
  /** `preview(voice)` plays a sentence. Throws an Error whose message is for the person. */
  constructor(setting, { voices, language, preview }) {
    super(setting, make("select"));
    Object.assign(this, { voices, language, preview });
    this.search = make("input", { type: "search", placeholder: "Search the voices", "aria-label": "Search the voices" });
    this.button = make("button", { type: "button" }, "Listen");
    this.outcome = make("small", { class: "note", role: "status" });
    this.element.append(this.search, make("div", { class: "voice" }, this.input, this.button), this.outcome);
    this.search.addEventListener("input", () => this.offer(this.value));
    this.button.addEventListener("click", () => this.listen());
    language?.input.addEventListener("change", () => this.offer(this.value));
  }

  get value() {
    return this.input.value;
  }

  set value(name) {
    this.search.value = "";
    this.offer(name);
  }

  /** A mixture or variant of a voice is written with a plus: en-us+f3. */
  accepts(name) {
    return super.accepts(name) && (!name || this.voices.some((voice) => voice.name === name.split("+")[0]));
  }

  /** Lists the voices that fit the language and the search; `wanted` is chosen if it is one of them. */
  offer(wanted) {
    const speaks = ({ language }) => !language || !this.language || baseOf(language) === baseOf(this.language.value);
    const fitting = this.voices.filter(speaks);
    const text = this.search.value.trim().toLowerCase();
    const found = fitting.filter((voice) => `${voice.name} ${titleOf(voice)} ${groupOf(voice)}`.toLowerCase().includes(text));
    const groups = [...new Set(found.map(groupOf))].map((label) => {
      const options = found.filter((voice) => groupOf(voice) === label).map((voice) => new Option(titleOf(voice), voice.name));
      return make("optgroup", { label }, ...options);
    });
    const own = wanted && !fitting.some(({ name }) => name === wanted) && fitting.some(({ name }) => name === wanted.split("+")[0]);
    const mixture = own || wanted === this.setting.default ? wanted : "";
    const extra = mixture && !found.some(({ name }) => name === mixture) ? [new Option(mixture, mixture)] : [];
    this.input.replaceChildren(new Option("Default voice of the language", ""), ...extra, ...groups);
    this.input.value = wanted;
    if (this.input.selectedIndex < 0) this.input.value = ""; // not a voice of this language
    this.search.hidden = fitting.length < SEARCHED;
  }

  async listen() {
    this.button.disabled = true;
    setText(this.outcome, "");
    await this.preview(this.value).catch((error) => setText(this.outcome, error.message));
    this.button.disabled = false;
  }
}

const titleOf = ({ name, language }) => voiceName(name, language);

function groupOf({ kind, language }) {
  if (kind === "cloned") return "Cloned";
  return language ? languageName(tagOf(language).split("-x-")[0]) : "Any language";
}
