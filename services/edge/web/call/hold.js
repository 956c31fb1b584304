/** Push-to-talk: a button to hold, and the space bar. */

export class Hold {
  /** `enabled()`: whether push-to-talk is on. `press(pressed)`: the person began or stopped to talk. */
  constructor(button, { enabled, press }) {
    Object.assign(this, { button, enabled, press });
    this.held = false; // by a pointer or the space bar; a click without either comes from a screen reader, and toggles
    this.toggled = false;
    button.addEventListener("pointerdown", (event) => this.down(event));
    for (const type of ["pointerup", "pointercancel"]) button.addEventListener(type, () => this.up());
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch
    button.addEventListener("click", ({ detail }) => detail === 0 && this.toggle());
    document.addEventListener("keydown", (event) => this.key(event, true));
    document.addEventListener("keyup", (event) => this.key(event, false));
    window.addEventListener("blur", () => this.up());
  }

  down(event) {
    this.button.setPointerCapture(event.pointerId);
    this.held = true;
    this.press(true);
  }

  up() {
    if (!this.held && !this.toggled) return;
    this.held = this.toggled = false;
    this.press(false);
  }

  toggle() {
    this.toggled = !this.toggled;
    this.press(this.toggled);
  }

  /** The space bar outside of text fields. It must not scroll the page or press a button. */
  key(event, down) {
    if (event.code !== "Space" || !this.enabled() || event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    if (!down) this.up();
    else if (!event.repeat) {
      this.held = true;
      this.press(true);
    }
  }
}
