/** The text of a reply on the page: Markdown, with what was spoken, what is to come and what was never heard. */

import { blocksOf, elementOf } from "./markdown.js";
import { make, setText } from "../elements.js";

export class ReplyText {
  constructor(element) {
    this.element = element;
    this.blocks = []; // of the last update: key, element, leaves
  }

  /** `revealed`: how many characters were spoken; `cut`: the rest will not be. Blocks that did not change are kept. */
  update(source, revealed, cut) {
    const found = blocksOf(source);
    this.blocks = found.map((block, at) => this.block(block, source, this.blocks[at]));
    if (this.element.childElementCount !== this.blocks.length || this.blocks.some(({ element }) => !element.isConnected)) {
      this.element.replaceChildren(...this.blocks.map(({ element }) => element));
    }
    for (const leaf of this.blocks.flatMap(({ leaves }) => leaves)) leaf.show(source, revealed, cut);
  }

  block(block, source, before) {
    const key = `${block.kind} ${block.from} ${source.slice(block.from, block.to)}`;
    if (before?.key === key) return before;
    const leaves = [];
    const leaf = (from, to) => {
      leaves.push(new Leaf(from, to));
      return leaves.at(-1).element;
    };
    const element = elementOf(block, source, leaf);
    before?.element.replaceWith(element);
    return { key, element, leaves };
  }

  /** The box of the place that the voice has reached; null if all of it was spoken. */
  get voiceAt() {
    const next = this.blocks.flatMap(({ leaves }) => leaves).find(({ coming }) => coming.textContent.trim());
    return next ? (next.coming.getClientRects()[0] ?? null) : null;
  }
}

/** A piece of text, in two parts: spoken, and not. */
class Leaf {
  constructor(from, to) {
    Object.assign(this, { from, to });
    this.said = make("span");
    this.coming = make("span");
    this.element = document.createDocumentFragment();
    this.element.append(this.said, this.coming);
  }

  show(source, revealed, cut) {
    const at = Math.min(Math.max(revealed, this.from), this.to);
    setText(this.said, source.slice(this.from, at));
    setText(this.coming, source.slice(at, this.to));
    this.coming.className = cut ? "unheard" : "coming";
  }
}
