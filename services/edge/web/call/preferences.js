/** What this browser keeps about the page: agent, devices, volume, theme. settings.js keeps what a conversation is set to. */

const KEY = "parley.page";

export function preference(name, fallback = "") {
  return stored(KEY)[name] ?? fallback;
}

export function prefer(name, value) {
  store(KEY, { ...stored(KEY), [name]: value });
}

/** Keep an object in this browser under a key. */
export function store(key, object) {
  try {
    localStorage.setItem(key, JSON.stringify(object));
  } catch {
    // storage is blocked: it holds until the page is closed
  }
}

/** The object that this browser keeps under a key; empty without one. */
export function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? {};
  } catch {
    return {};
  }
}
