/** Makes elements of the page. Texts become text nodes, never HTML. */

/** An element with attributes and children. `true` sets an attribute without a value; false, null and undefined leave it out. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const find = (id) => document.getElementById(id);

/** Leaves an unchanged text alone: setting it again would make a live region speak and clear a selection. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
