/** Asks the person for a key of this server, or for a client secret that a key has created. */

import { make, setText } from "./elements.js";

const SHAPE = "(pk|ek)_[A-Za-z0-9_\\-]+";

/** Shows the dialog; `problem`: why the last key does not help. Returns the key; an empty text if the person gives none. */
export function askForKey(problem) {
  const input = make("input", {
    type: "password", name: "key", required: true, pattern: SHAPE, title: "It begins with pk_ or ek_.", autocomplete: "off", spellcheck: "false",
  }); // prettier-ignore
  const dialog = make(
    "dialog",
    { id: "ask-key", "aria-labelledby": "ask-key-title" },
    make(
      "form",
      { method: "dialog" },
      make("h2", { id: "ask-key-title" }, "This server asks for a key"),
      make("p", { role: "alert" }),
      make("label", {}, "Key or client secret", input),
      make("p", { class: "note" }, "Whoever runs the server has one for you. It is kept until you close this tab."),
      make(
        "div",
        { class: "buttons" },
        make("span"),
        make("button", { type: "submit", value: "use", class: "primary" }, "Continue"),
        make("button", { type: "submit", value: "cancel", formnovalidate: true }, "Cancel"),
      ),
    ),
  );
  document.body.append(dialog);
  setText(dialog.querySelector("[role=alert]"), problem);
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "use" ? input.value.trim() : "");
    });
  });
}
