/** What was said so far, as the server takes it over: after a lost connection, and when settings change. Pure. */

const MOST = 400; // messages that a session keeps

export function said(turns) {
  const messages = turns.flatMap((turn) => [
    { role: "user", text: turn.typed && !turn.sent ? "" : turn.user.trim() }, // what was not sent yet is sent later
    { role: "assistant", text: heard(turn).trim() },
  ]);
  return messages.filter(({ text }) => text).slice(-MOST);
}

/** The part of a reply that the person heard. */
export function heard({ reply, heard: exact, shown, status, done }) {
  if (exact !== null && reply.startsWith(exact)) return exact;
  return done && status === "completed" ? reply : reply.slice(0, shown);
}
