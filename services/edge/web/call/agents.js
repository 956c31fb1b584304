/** The choice of an agent on the start screen. A server without several agents shows none. */

import { baseOf, languageName } from "./languages.js";
import { prefer, preference } from "./preferences.js";
import { make } from "../elements.js";
import { ask } from "../server.js";

export class Agents {
  /** `wanted`: the agent of a link; `onChoice(agent)`; `onMissing(id, agent)`: the agent that was wanted does not exist. */
  constructor(fieldset, { wanted, onChoice, onMissing }) {
    Object.assign(this, { fieldset, onChoice, onMissing });
    this.wanted = wanted || preference("agent");
    this.list = [];
    this.chosen = null;
    fieldset.addEventListener("change", ({ target }) => this.choose(target.value));
  }

  /** The id for the server; empty: its default. */
  get id() {
    return this.list.length ? (this.chosen?.id ?? "") : this.wanted;
  }

  async load() {
    const response = await ask("v1/agents").catch(() => null);
    const { agents = [], default: usual = "" } = response?.ok ? await response.json().catch(() => ({})) : {};
    this.list = agents;
    const find = (id) => agents.find((agent) => agent.id === id);
    this.chosen = find(this.wanted) ?? find(usual) ?? agents[0] ?? null;
    if (this.wanted && this.chosen && this.chosen.id !== this.wanted) this.onMissing(this.wanted, this.chosen);
    if (!agents.length) this.wanted = "";
    this.draw();
  }

  choose(id) {
    this.chosen = this.list.find((agent) => agent.id === id);
    prefer("agent", id);
    this.onChoice(this.chosen);
  }

  draw() {
    this.fieldset.hidden = this.list.length < 2;
    this.fieldset.replaceChildren(make("legend", {}, "Who do you want to talk with?"), ...this.list.map((agent) => this.card(agent)));
  }

  card({ id, name, description, language }) {
    const checked = id === this.chosen?.id;
    const input = make("input", { type: "radio", name: "agent", value: id, checked });
    const tongue = language && baseOf(language) !== "en" ? make("small", {}, languageName(language)) : null;
    return make("label", { class: "agent" }, input, make("strong", {}, name || id), make("span", {}, description), tongue);
  }
}
