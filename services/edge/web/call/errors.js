/** Error messages for the person: what happened, and what to do. Pure, except that they read `location` and `navigator`. */

const INSECURE = `This page came over http from another machine, and browsers allow microphone and sound only over https or on
localhost. You can type here. To speak, put https in front of the server, or run on this machine: ${tunnel()}`;

const MICROPHONE = {
  insecure: INSECURE,
  silent: INSECURE,
  denied: "The microphone is blocked for this page. Allow it beside the address of the page, then press Try again; or type instead.",
  missing: "No microphone was found. Connect one and press Try again, or type instead.",
  busy: "The microphone could not be opened. Close other programs that may be using it and press Try again, or type instead.",
  failed: "The microphone could not be started. Press Try again, or type instead.",
  lost: "The microphone was disconnected. Connect it and press Try again, or type instead.",
};

const STAGES = {
  vad: "voice detection",
  asr: "speech recognition",
  llm: "the language model",
  tts: "the voice",
  broker: "the broker",
};

export function microphoneError(code) {
  return MICROPHONE[code] ?? MICROPHONE.failed;
}

/** Whether another attempt can succeed without a new page. */
export function canRetry(code) {
  return MICROPHONE[code] !== INSECURE;
}

/** The way to a page on localhost: a tunnel to the server. */
function tunnel() {
  const port = location.port || "80";
  return `ssh -N -L 8000:localhost:${port} ${location.hostname}, and open http://localhost:8000`;
}

/** Why the connection was lost, from the WebSocket's close code and reason. */
export function connectionError({ code, reason, established }) {
  if (code === 1013) return `The server cannot start a conversation now${reason ? `: ${reason}` : ""}.`;
  if (code === 1012) return "The server is restarting.";
  if (code === 1000) return `The server ended the conversation${reason ? `: ${reason}` : ""}.`;
  if (reason) return `The server closed the connection: ${reason}.`;
  if (!navigator.onLine) return "This computer is offline.";
  return established ? "The connection to the server was lost." : "The server cannot be reached.";
}

/** Whether a stage in the answer of `POST /test-connection` is ready; `value` is a flag or an object with one. */
export function isWell(value) {
  return typeof value === "object" && value ? Boolean(value.ok ?? value.ready) : Boolean(value);
}

export function stageName(stage) {
  return STAGES[stage] ?? stage;
}

/** Why no conversation can start, from the answer of `POST /test-connection`; empty if one can. */
export function refusalOf({ ok, stages = {}, reason, error }) {
  if (ok) return "";
  if (error?.message) return `The server refuses this page: ${error.message}`;
  const down = Object.entries(stages).filter(([, value]) => !isWell(value));
  if (!down.length || down.length === Object.keys(stages).length) return reason ? `Not ready: ${reason}.` : "";
  return `Not ready: ${down.map(([stage]) => stageName(stage)).join(", ")}.`;
}
