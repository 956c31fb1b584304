/** The control of one setting in the settings panel, made from what the server says of it in `/config`. */

import { make } from "../elements.js";

const LONG_TEXT = 1000; // characters from which a text gets an area of several lines
const COARSE = 1000; // a wider range is set in steps of 10
const FRACTION_STEP = 0.05;

export class Control {
  /** `setting`: name, label, type, text, default, and unit, min, max, choices, longest, pattern and shape where it has them. */
  constructor(setting, input = field(setting)) {
    this.setting = setting;
    this.input = Object.assign(input, { name: setting.name, id: `setting-${setting.name}` });
    const label = make("label", { for: input.id }, setting.label);
    if (input.type === "range") {
      this.output = make("output", { for: input.id });
      label.append(" ", this.output);
    }
    const choice = setting.type === "boolean";
    this.element = make("div", { class: choice ? "setting choice" : "setting" }, ...(choice ? [input, label] : [label, input]));
  }

  /** Shows the default, and remembers how it looks: a slider rounds to its steps. */
  begin() {
    this.value = this.setting.default;
    this.shownDefault = this.value;
    return this;
  }

  /** What the person chose, as JSON for the server; undefined: the default. */
  get chosen() {
    return this.value === this.shownDefault ? undefined : this.value;
  }

  get value() {
    if (this.setting.type === "boolean") return this.input.checked;
    return this.input.type === "range" ? this.input.valueAsNumber : this.input.value.trim();
  }

  set value(value) {
    if (this.setting.type === "boolean") this.input.checked = value;
    else this.input.value = value;
    this.label();
  }

  label() {
    if (this.output) this.output.textContent = `${Number(this.input.value)} ${this.setting.unit ?? ""}`.trim();
  }

  /** Whether the server would accept this value: one that was kept from an earlier visit may no longer be in range. */
  accepts(value) {
    const { type, min, max, choices, longest, pattern } = this.setting;
    if (type === "boolean") return typeof value === "boolean";
    if (type === "string") {
      if (typeof value !== "string" || value.length > (longest ?? Infinity)) return false;
      return choices?.includes(value) ?? (!pattern || new RegExp(`^(?:${pattern})$`).test(value));
    }
    return Number.isFinite(value) && value >= min && value <= max && (type === "number" || Number.isInteger(value));
  }
}

function field({ type, min, max, choices, pattern, longest, shape, text, default: usual }) {
  if (choices) {
    const options = choices.includes(usual) ? choices : [usual, ...choices];
    return make("select", {}, ...options.map((choice) => new Option(choice || "default", choice)));
  }
  if (longest > LONG_TEXT) return make("textarea", { rows: 3, maxlength: longest, placeholder: text });
  if (type === "boolean") return make("input", { type: "checkbox" });
  if (type === "string") return make("input", { type: "text", pattern, title: pattern && shape, required: Boolean(pattern), maxlength: longest });
  const step = type === "number" ? FRACTION_STEP : max - min > COARSE ? 10 : 1;
  return make("input", { type: "range", min, max, step });
}
