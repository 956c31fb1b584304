/** The control of one setting in the settings panel, made from what the server says of it in `/config`. */

const LONG_TEXT = 1000; // characters from which a text gets an area of several lines
const COARSE = 1000; // a wider range is set in steps of 10
const FRACTION_STEP = 0.05;

export class Control {
  /** `setting`: name, label, type, text, default, and unit, min, max, choices, longest, pattern and shape where it has them. */
  constructor(setting) {
    this.setting = setting;
    this.input = input(setting);
    this.input.name = setting.name;
    this.input.id = `setting-${setting.name}`;
    const text = document.createElement("span");
    text.textContent = setting.label;
    this.element = document.createElement("label");
    this.element.htmlFor = this.input.id; // an output within a label would be taken for what it labels
    if (setting.type === "boolean") {
      this.element.className = "choice";
      this.element.append(this.input, text);
    } else {
      if (this.input.type === "range") {
        this.output = document.createElement("output");
        text.append(" ", this.output);
      }
      this.element.append(text, this.input);
    }
    this.value = setting.default;
    this.shownDefault = this.value; // a slider rounds to its steps
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
    const { type, min, max, choices, longest } = this.setting;
    if (type === "boolean") return typeof value === "boolean";
    if (type === "string") {
      return typeof value === "string" && (choices?.includes(value) ?? value.length <= (longest ?? Infinity));
    }
    return Number.isFinite(value) && value >= min && value <= max && (type === "number" || Number.isInteger(value));
  }
}

function input({ type, min, max, choices, pattern, longest, shape, text, default: usual }) {
  if (choices) {
    const select = document.createElement("select");
    select.append(...choices.map((choice) => new Option(choice || "default", choice)));
    if (!choices.includes(usual)) select.prepend(new Option(usual, usual));
    return select;
  }
  if (longest > LONG_TEXT) {
    return Object.assign(document.createElement("textarea"), { rows: 3, maxLength: longest, placeholder: text });
  }
  const made = document.createElement("input");
  if (type === "boolean") return Object.assign(made, { type: "checkbox" });
  if (type === "string") {
    if (pattern) Object.assign(made, { pattern, title: shape, required: true });
    if (longest) made.maxLength = longest;
    return Object.assign(made, { type: "text" });
  }
  const step = type === "number" ? FRACTION_STEP : max - min > COARSE ? 10 : 1;
  return Object.assign(made, { type: "range", min, max, step });
}
