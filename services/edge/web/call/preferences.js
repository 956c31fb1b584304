/** What this browser keeps about the page: agent, devices, volume, theme. settings.js keeps what a conversation is set to. */

const KEY = "parley.page";

export function preference(name, fallback = "") {
  return stored()[name] ?? fallback;
}

export function prefer(name, value) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...stored(), [name]: value }));
  } catch {
    // storage is blocked: it holds until the page is closed
  }
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}
