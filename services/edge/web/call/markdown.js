/**
 * Markdown of a reply as elements: headings, lists, quotes, code, bold, italic, links. Everything else stays text.
 *
 * The text of a model never becomes HTML: elements are made here, texts are text nodes, and a link has http, https or
 * mailto. Each piece of text knows its place in the source, so that the page can show how much of it was spoken.
 */

import { make } from "../elements.js";

const FENCE = /^\s*(```|~~~)/;
const HEADING = /^#{1,6}\s+/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s*>\s?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+/;

const INLINE = new RegExp(
  [
    /`([^`\n]+)`/,
    /\*\*(?=\S)([^\n]*?\S)\*\*/,
    /\*(?=\S)([^*\n]*?\S)\*/,
    /(?<!\w)_(?=\S)([^_\n]*?\S)_(?!\w)/,
    /\[([^\]\n]+)\]\(((?:https?:\/\/|mailto:)[^\s)]+)\)/,
    /(https?:\/\/[^\s<>"]*[^\s<>".,;:!?)'\]*_])/,
    /\\([!-/:-@[-`{-~])/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "dg",
);
const [CODE, STRONG, EMPHASIS, UNDERLINED, LABEL, TARGET, ADDRESS, ESCAPED] = [1, 2, 3, 4, 5, 6, 7, 8];

/** The blocks of a text: kind, `from` and `to` in the source, and the lines of each part: [from, to] without its marker. */
export function blocksOf(source) {
  const blocks = [];
  let from = 0;
  for (const line of source.split("\n")) {
    add(blocks, line, from, from + line.length);
    from += line.length + 1;
  }
  return blocks.filter(({ kind }) => kind !== "blank");
}

function add(blocks, line, from, to) {
  const last = blocks.at(-1);
  const begin = (kind, marker = "", more = {}) => blocks.push({ kind, from, to, parts: [[[from + marker.length, to]]], ...more });
  const extend = (marker = "") => ((last.to = to), last.parts.at(-1).push([from + marker.length, to]));
  const open = last?.kind === "code" && last.open;
  if (open && FENCE.test(line)) [last.open, last.to] = [false, to];
  else if (open) extend();
  else if (FENCE.test(line)) blocks.push({ kind: "code", from, to, parts: [[]], open: true });
  else if (!line.trim()) blocks.push({ kind: "blank", from, to, parts: [] });
  else if (HEADING.test(line)) begin("heading", HEADING.exec(line)[0]);
  else if (RULE.test(line)) blocks.push({ kind: "rule", from, to, parts: [] });
  else if (QUOTE.test(line)) last?.kind === "quote" ? extend(QUOTE.exec(line)[0]) : begin("quote", QUOTE.exec(line)[0]);
  else if (ITEM.test(line)) item(blocks, line, from, to);
  else if (last && ["paragraph", "list", "quote"].includes(last.kind)) extend(/^\s*/.exec(line)[0]);
  else begin("paragraph");
}

/** An item of a list. A list goes on after a blank line, as models write it. */
function item(blocks, line, from, to) {
  const [marker, indent, sign] = ITEM.exec(line);
  const ordered = /\d/.test(sign);
  const list = blocks.at(-1)?.kind === "blank" ? blocks.at(-2) : blocks.at(-1);
  const part = [[from + marker.length, to]];
  if (list?.kind === "list" && (list.ordered === ordered || indent)) {
    if (blocks.at(-1) !== list) blocks.pop();
    list.to = to;
    list.parts.push(part);
    list.indents.push(indent.length);
  } else blocks.push({ kind: "list", from, to, ordered, first: Number.parseInt(sign, 10) || 1, parts: [part], indents: [indent.length] });
}

const TAGS = { heading: "h4", quote: "blockquote", paragraph: "p" };

/** The element of a block. `leaf(from, to)` makes the node of a piece of text. */
export function elementOf(block, source, leaf) {
  const { kind, parts } = block;
  if (kind === "rule") return make("hr");
  if (kind === "code") return make("pre", {}, make("code", {}, ...lines(parts[0], source, leaf, ([from, to]) => [leaf(from, to)])));
  const inline = (part) => lines(part, source, leaf, ([from, to]) => pieces(source, from, to, leaf));
  if (kind !== "list") return make(TAGS[kind], { dir: "auto" }, ...inline(parts[0]));
  const items = parts.map((part, at) => make("li", { dir: "auto", class: block.indents[at] > 1 ? "nested" : null }, ...inline(part)));
  return make(block.ordered ? "ol" : "ul", { start: block.ordered && block.first !== 1 ? block.first : null }, ...items);
}

/** The nodes of several lines, with the line breaks between them. */
function lines(part, source, leaf, nodesOf) {
  return part.flatMap((line, at) => (at ? [leaf(line[0] - 1, line[0], "\n"), ...nodesOf(line)] : nodesOf(line)));
}

/** The nodes of a piece of text with inline marks. */
function pieces(source, from, to, leaf) {
  const nodes = [];
  const text = source.slice(from, to);
  const inner = (match, group) => pieces(source, from + match.indices[group][0], from + match.indices[group][1], leaf);
  const plain = (match, group) => leaf(from + match.indices[group][0], from + match.indices[group][1]);
  let done = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > done) nodes.push(leaf(from + done, from + match.index));
    if (match[CODE]) nodes.push(make("code", {}, plain(match, CODE)));
    else if (match[STRONG]) nodes.push(make("strong", {}, ...inner(match, STRONG)));
    else if (match[EMPHASIS] ?? match[UNDERLINED]) nodes.push(make("em", {}, ...inner(match, match[EMPHASIS] ? EMPHASIS : UNDERLINED)));
    else if (match[LABEL]) nodes.push(link(match[TARGET], plain(match, LABEL)));
    else if (match[ADDRESS]) nodes.push(link(match[ADDRESS], plain(match, ADDRESS)));
    else nodes.push(plain(match, ESCAPED));
    done = match.index + match[0].length;
  }
  if (done < text.length) nodes.push(leaf(from + done, to));
  return nodes;
}

const link = (href, text) => make("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text);
