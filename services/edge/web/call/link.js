/**
 * Settings as a link: the fragment of the page's address, which browsers do not send to the server.
 *
 * `…/#agent=tutor&voice=en-gb&speed=1.2`. The agent is the agent's id, everything else a setting by its name. Pure.
 */

/** The address with this agent and these settings. */
export function linkTo(agent, chosen, address = location.href) {
  const fragment = new URLSearchParams(agent ? { agent } : {});
  for (const [name, value] of Object.entries(chosen)) fragment.set(name, String(value));
  const url = new URL(address);
  url.hash = fragment.toString();
  return url.href;
}

/** The agent and the texts of the settings in a fragment. */
export function readLink(hash = location.hash) {
  const { agent = "", ...texts } = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  return { agent, texts };
}

/** A setting's text as its type; undefined if it does not fit. */
export function parsed(text, { type }) {
  if (type === "boolean") return { true: true, false: false }[text];
  if (type === "string") return text;
  return text.trim() && Number.isFinite(Number(text)) ? Number(text) : undefined;
}
