/** A line above the page: what happened, and what to press. One element shows errors, another one notices. */

import { make, setText } from "../elements.js";

export class Banner {
  constructor(element) {
    this.element = element;
    [this.text, this.countdown] = element.querySelectorAll("p span");
    this.actions = element.querySelector(".actions");
    element.querySelector(".close").addEventListener("click", () => this.hide());
  }

  /**
   * `actions`: [label, run] of each button. `retryAtMs` (performance.now()): counts down to the next attempt. `forMs`:
   * hide it after this time, unless the person is at one of its buttons.
   */
  show(text, { actions = [], retryAtMs = null, forMs = 0 } = {}) {
    this.stop();
    setText(this.text, text);
    this.actions.replaceChildren(...actions.map((action) => this.button(action)));
    this.element.hidden = !text;
    setText(this.countdown, "");
    if (retryAtMs !== null) this.count(retryAtMs);
    if (forMs) this.timer = setInterval(() => this.element.matches(":hover, :focus-within") || this.hide(), forMs);
  }

  hide() {
    this.show("");
  }

  button([label, run]) {
    const button = make("button", { type: "button" }, label);
    button.addEventListener("click", () => {
      this.hide();
      run();
    });
    return button;
  }

  /** The countdown is hidden from screen readers: they would read every second. */
  count(retryAtMs) {
    const tick = () => {
      const seconds = Math.ceil((retryAtMs - performance.now()) / 1000);
      setText(this.countdown, seconds > 0 ? ` Trying again in ${seconds} s.` : " Trying again.");
      if (seconds <= 0) this.stop();
    };
    this.timer = setInterval(tick, 250);
    tick();
  }

  stop() {
    clearInterval(this.timer);
  }
}
