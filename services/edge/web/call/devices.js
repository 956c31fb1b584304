/** The part of the settings that concerns this device: microphone, loudspeaker, volume, theme. It applies at once. */

import { Loudspeaker } from "./loudspeaker.js";
import { prefer, preference } from "./preferences.js";
import { make } from "../elements.js";

const THEMES = [
  ["system", "System default"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export class Devices {
  /**
   * What the person has chosen: `onMicrophone(id)`, `onSpeaker(id)`, `onVolume(level)`, `onTheme()`. An empty id is the
   * system's choice.
   */
  constructor(fieldset, { onMicrophone, onSpeaker, onVolume, onTheme }) {
    this.microphone = select("microphone", "Microphone", onMicrophone);
    this.speaker = select("speaker", "Loudspeaker", onSpeaker);
    this.speaker.hidden = !Loudspeaker.canChoose;
    this.note = make("p", { class: "note" }, "The browser names the devices once the microphone is allowed.");
    fieldset.append(this.microphone, this.speaker, this.note, volume(onVolume), theme(onTheme));
    navigator.mediaDevices?.addEventListener("devicechange", () => this.refresh());
  }

  /** Lists the devices that there are now. */
  async refresh() {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    const named = devices.filter(({ label, deviceId }) => label && deviceId && deviceId !== "default" && deviceId !== "communications");
    fill(this.microphone, named.filter(({ kind }) => kind === "audioinput"));
    fill(this.speaker, named.filter(({ kind }) => kind === "audiooutput"));
    this.microphone.hidden = !navigator.mediaDevices;
    this.note.hidden = !navigator.mediaDevices || named.length > 0;
  }
}

function select(name, label, onChoice) {
  const chosen = make("select", { id: `device-${name}` });
  chosen.addEventListener("change", () => {
    prefer(name, chosen.value);
    onChoice(chosen.value);
  });
  const element = make("label", { for: chosen.id }, make("span", {}, label), chosen);
  return Object.assign(element, { name, chosen });
}

/** A device that was chosen and is gone stays in the list: it is used again when it comes back. */
function fill({ name, chosen }, devices) {
  const wanted = preference(name);
  const options = devices.map(({ label, deviceId }) => new Option(label, deviceId));
  if (wanted && !devices.some(({ deviceId }) => deviceId === wanted)) options.push(new Option("Not connected", wanted));
  chosen.replaceChildren(new Option("System default", ""), ...options);
  chosen.value = wanted;
}

function volume(onVolume) {
  const slider = make("input", { type: "range", id: "device-volume", min: 0, max: 100, step: 5, value: 100 * preference("volume", 1) });
  const output = make("output", { for: slider.id });
  const show = () => (output.textContent = `${slider.value} %`);
  slider.addEventListener("input", () => {
    show();
    prefer("volume", slider.valueAsNumber / 100);
    onVolume(slider.valueAsNumber / 100);
  });
  show();
  return make("label", { for: slider.id }, make("span", {}, "Volume of the voice ", output), slider);
}

function theme(onTheme) {
  const chosen = make("select", { id: "device-theme" });
  chosen.append(...THEMES.map(([value, label]) => new Option(label, value)));
  chosen.value = preference("theme", "system");
  chosen.addEventListener("change", () => {
    prefer("theme", chosen.value);
    if (chosen.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen.value;
    onTheme();
  });
  return make("label", { for: chosen.id }, make("span", {}, "Theme"), chosen);
}
