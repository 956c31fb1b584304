/** Computes the figures of the response times. Pure; timing.js draws them. */

const P95_TURNS = 20; // with fewer turns the p95 is simply the slowest turn

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

/** The median of these times and the slow end: the p95 if there are enough of them, else the slowest. */
export function summary(values) {
  const enough = values.length >= P95_TURNS;
  const slow = { name: enough ? "p95" : "slowest", ms: percentile(values, enough ? 95 : 100) };
  return { n: values.length, p50: percentile(values, 50), slow };
}
