/** Formats figures for people, and picks the end of a time axis. Pure. */

/** 87 → "87 ms", 1240 → "1.24 s". */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
}

/** The end of an axis in ms: 1, 1.5, 2, 3, 5 or 7.5 times a power of ten, the first that is not below the longest turn. */
export function axis(longestMs) {
  const power = 10 ** Math.floor(Math.log10(Math.max(longestMs, 100)));
  return [1, 1.5, 2, 3, 5, 7.5, 10].map((step) => step * power).find((end) => end >= longestMs);
}

/** 75 → "1:15", 3700 → "1:01:40". */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** 1536 → "1.5 KiB". */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  const size = count / 1024 ** power;
  return `${size.toFixed(power && size < 10 ? 1 : 0)} ${units[power]}`;
}

/** Local time of day, to the second. */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

/** Local time of day, to the millisecond. */
export const exactClock = (ms) => `${clock(ms)}.${String(ms % 1000).padStart(3, "0")}`;

/** Local date, or nothing for today. */
export function day(ms) {
  const date = new Date(ms).toLocaleDateString([], { day: "numeric", month: "short" });
  return date === new Date().toLocaleDateString([], { day: "numeric", month: "short" }) ? "" : date;
}
