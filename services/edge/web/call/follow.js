/** Keeps a place of the transcript in view: where the voice is, or else the newest line. The person's scrolling ends that. */

const NEAR_PX = 120; // scrolled back to within this distance, the page follows again
const MARGIN_PX = 72; // kept above and below the place

export class Follow {
  /** `scroller` scrolls where the page does not; `button` takes the person back to the newest line. */
  constructor(scroller, button) {
    Object.assign(this, { scroller, button });
    this.following = true;
    this.place = () => null;
    this.expected = 0;
    for (const target of [scroller, document]) target.addEventListener("scroll", () => this.scrolled(), { passive: true });
    button.addEventListener("click", () => this.again());
  }

  /** `place()` returns the box to keep in view; null: the end. */
  keep(place) {
    this.scrolled(); // the browser tells of the person's scrolling later than it happens
    this.place = place;
    if (this.following) this.go();
  }

  again() {
    this.following = true;
    this.button.hidden = true;
    this.go();
  }

  /** Either the list scrolls, or (on a small screen) the page. */
  get moving() {
    return getComputedStyle(this.scroller).overflowY === "auto" ? this.scroller : document.scrollingElement;
  }

  get bounds() {
    if (this.moving === this.scroller) return this.scroller.getBoundingClientRect();
    const composer = document.getElementById("composer").getBoundingClientRect();
    return { top: 0, bottom: Math.min(innerHeight, composer.top) };
  }

  /** How far the place is below (positive) or above (negative) what can be seen. */
  get distance() {
    const { top, bottom } = this.bounds;
    const box = this.place();
    if (!box) return this.moving.scrollHeight - this.moving.clientHeight - this.moving.scrollTop;
    if (box.bottom > bottom - MARGIN_PX) return box.bottom - (bottom - MARGIN_PX);
    return Math.min(0, box.top - (top + MARGIN_PX));
  }

  go() {
    const { moving } = this;
    moving.scrollTop += this.distance;
    this.expected = moving.scrollTop;
  }

  scrolled() {
    if (Math.abs(this.moving.scrollTop - this.expected) < 3) return;
    this.expected = this.moving.scrollTop;
    this.following = Math.abs(this.distance) < NEAR_PX;
    this.button.hidden = this.following;
  }
}
