/** The words for the state of the call, and what to do in it. Pure. */

const LABELS = {
  idle: ["Ready when you are", "Press Start and speak, or type a message."],
  connecting: ["Connecting", "Waiting for the server."],
  ready: ["Connected", "Type a message, or press Talk to use the microphone."],
  listening: ["Listening", "Say something."],
  thinking: ["Thinking", ""],
  speaking: ["Speaking", ""],
  paused: ["Paused", "Keep speaking to interrupt, or stay silent to hear the rest."],
  reconnecting: ["Reconnecting", "The connection was lost. Trying again."],
};

/** The label of the state and a hint; `touch`: there is a finger and no space bar. */
export function statusOf({ state, userSpeaking, pushToTalk, pressed, microphone }, touch) {
  const [label, hint] = LABELS[state];
  const hold = touch ? "Hold the button below" : "Hold the button or the space bar";
  if (state === "speaking") return [label, interruption({ pushToTalk, microphone }, hold)];
  if (state !== "listening") return [label, hint];
  if (microphone.muted) return ["Muted", "Press Unmute to speak."];
  if (pushToTalk) return pressed ? [label, "Release to send."] : ["Your turn", `${hold} and speak.`];
  return [label, userSpeaking ? "You are speaking." : hint];
}

/** How to interrupt the reply from here: without an open microphone nobody can speak into it. */
function interruption({ pushToTalk, microphone }, hold) {
  if (!microphone.open) return "Press Stop reply, or type, to interrupt.";
  if (microphone.muted) return "Press Unmute, or type, to interrupt.";
  return pushToTalk ? `${hold} to interrupt.` : "Speak to interrupt.";
}
