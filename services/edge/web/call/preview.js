/** Plays a sentence in a voice, so that a person can hear it before choosing it. */

import { ask } from "../server.js";
import { Loudspeaker } from "./loudspeaker.js";

let context = null;

/** Plays to the end. Throws an Error whose message is for the person. */
export async function playPreview({ voice, language, speed }) {
  context ??= new AudioContext(); // made at the click: browsers allow sound only then
  const body = JSON.stringify({ voice, language, speed });
  const headers = { "Content-Type": "application/json" };
  const response = await ask("v1/voice-preview", { method: "POST", headers, body }).catch(() => null);
  if (!response) throw new Error("The server cannot be reached.");
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new Error(error?.message ? `No preview: ${error.message}.` : "This server has no previews.");
  }
  await context.resume();
  const buffer = await context.decodeAudioData(await response.arrayBuffer());
  const source = new AudioBufferSourceNode(context, { buffer });
  new Loudspeaker().attach(source, context);
  const over = new Promise((resolve) => source.addEventListener("ended", resolve));
  source.start();
  await over;
}
