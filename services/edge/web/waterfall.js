/** From a turn's marks to the bars of its waterfall. Pure: numbers in, numbers out; timing.js draws them. */

/** The marks in the order in which a turn passes them, each with what ends there. */
export const STAGES = [
  ["endpoint", "Endpoint", "silence until the turn was known to be over"],
  ["transcript", "Transcript", "until the final transcript"],
  ["first_token", "First token", "until the model's first words"],
  ["first_sentence", "First sentence", "until a sentence could be spoken"],
  ["first_audio", "First audio", "until the voice's first sound was sent"],
  ["played", "Played", "network and buffer, until it was heard"],
].map(([name, label, about]) => ({ name, label, about }));

/**
 * One bar for each mark that is known: `start` and `end` in milliseconds since the end of speech.
 *
 * A stage that was done before the one that it is listed after (work prepared during the silence) cost nothing: its
 * bar is empty, and the next one begins where the last one ended.
 */
export function bars(marks) {
  let reached = 0;
  return STAGES.filter(({ name }) => Number.isFinite(marks[name])).map(({ name, label }) => {
    const start = reached;
    reached = Math.max(reached, marks[name]);
    return { name, label, start, end: reached, duration: reached - start, mark: marks[name] };
  });
}

/** End of speech until the reply was heard (or sent, where the page could not play it); null for a turn without audio. */
export function total({ played, first_audio: firstAudio }) {
  return played ?? firstAudio ?? null;
}

/** The p-th percentile, 0..100, interpolated between neighbours; null of nothing. */
export function percentile(values, p) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}

/** p50 and p95 of the session: of each stage's duration by its name, and of the whole as `total`. */
export function summary(listOfMarks) {
  const samples = new Map([["total", listOfMarks.map(total).filter((value) => value !== null)]]);
  for (const { name, duration } of listOfMarks.flatMap(bars)) samples.set(name, [...(samples.get(name) ?? []), duration]);
  const entry = ([name, values]) => [name, { p50: percentile(values, 50), p95: percentile(values, 95), n: values.length }];
  return Object.fromEntries([...samples].map(entry));
}

/** The end of the axis: the first of 1, 1.5, 2, 3, 5, 7.5 times a power of ten that holds the longest turn. */
export function axis(longestMs) {
  const power = 10 ** Math.floor(Math.log10(Math.max(longestMs, 100)));
  return [1, 1.5, 2, 3, 5, 7.5, 10].map((step) => step * power).find((end) => end >= longestMs);
}

/** 87 → "87 ms", 1240 → "1.24 s". */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
}
