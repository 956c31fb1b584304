/** What went wrong, in words that tell the person what to do. Pure. */

const MICROPHONE = {
  insecure: "This page can only use audio over https or on localhost. You can still type.",
  denied: "The microphone is blocked for this page. Allow it in the browser's address bar, or type instead.",
  missing: "No microphone was found. Plug one in and press Talk, or type instead.",
  busy: "The microphone could not be opened; another program may be using it. You can still type.",
  failed: "The microphone could not be started. You can still type.",
  lost: "The microphone is gone. Plug it in and press Talk, or type instead.",
};

const STAGES = {
  vad: "voice detection",
  asr: "speech recognition",
  llm: "the language model",
  tts: "the voice",
  broker: "the broker",
};

export function microphoneTrouble(code) {
  return MICROPHONE[code] ?? MICROPHONE.failed;
}

/** Why the line is gone, from what the WebSocket closed with. */
export function lineTrouble({ code, reason, established }) {
  if (code === 1013) return `The server cannot take a conversation now${reason ? `: ${reason}` : ""}.`;
  if (code === 1012) return "The server is restarting.";
  if (code === 1000) return `The server ended the conversation${reason ? `: ${reason}` : ""}.`;
  if (reason) return `The server closed the line: ${reason}.`;
  if (!navigator.onLine) return "This computer is offline.";
  return established ? "The line to the server was lost." : "The server cannot be reached.";
}

/** Whether a stage of `POST /test-connection` is well; the value may be a flag or an object that holds one. */
export function isWell(value) {
  return typeof value === "object" && value ? Boolean(value.ok ?? value.ready) : Boolean(value);
}

export function stageName(stage) {
  return STAGES[stage] ?? stage;
}

/** Why `POST /test-connection` says that no conversation can start; empty when one can. */
export function stagesTrouble({ ok, stages = {}, reason }) {
  if (ok) return "";
  const down = Object.entries(stages).filter(([, value]) => !isWell(value));
  if (!down.length || down.length === Object.keys(stages).length) return reason ? `Not ready: ${reason}.` : "";
  return `Not ready: ${down.map(([stage]) => stageName(stage)).join(", ")}.`;
}
