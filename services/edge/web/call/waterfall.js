/** Computes the bars of a turn's waterfall from its marks. Pure; timing.js draws them. */

/** The marks in the order in which a turn passes them; each ends the stage of its name. */
export const STAGES = [
  ["endpoint", "Endpoint", "silence until the end of the turn was detected"],
  ["transcript", "Transcript", "until the final transcript"],
  ["first_token", "First token", "until the first token of the chat model"],
  ["first_sentence", "First sentence", "until the first sentence was complete"],
  ["first_audio", "First audio", "until the first audio of the voice was sent"],
  ["played", "Played", "network and playback buffer, until the loudspeaker"],
].map(([name, label, about]) => ({ name, label, about }));

/**
 * One bar for each known mark: `start` and `end` in milliseconds since the end of speech.
 *
 * A stage that ended before the stage listed above it (work that was prepared during the silence) added no time: its
 * bar is empty, and the next bar starts where the last one ended.
 */
export function bars(marks) {
  let reached = 0;
  return STAGES.filter(({ name }) => Number.isFinite(marks[name])).map(({ name, label }) => {
    const start = reached;
    reached = Math.max(reached, marks[name]);
    return { name, label, start, end: reached, duration: reached - start, mark: marks[name] };
  });
}

/** Milliseconds from the end of speech until the reply played (or was sent, if the page could not play it); null without audio. */
export function total({ played, first_audio: firstAudio }) {
  return played ?? firstAudio ?? null;
}

/** The p-th percentile (0..100), interpolated linearly; null for an empty list. */
export function percentile(values, p) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** p50, p95 and count of each stage's duration, by its name, and of the total as `total`. */
export function summary(listOfMarks) {
  const samples = new Map([["total", listOfMarks.map(total).filter((value) => value !== null)]]);
  for (const { name, duration } of listOfMarks.flatMap(bars)) samples.set(name, [...(samples.get(name) ?? []), duration]);
  const entry = ([name, values]) => [name, { p50: percentile(values, 50), p95: percentile(values, 95), n: values.length }];
  return Object.fromEntries([...samples].map(entry));
}
