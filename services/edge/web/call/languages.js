/** Names of languages and voices for people. Pure. */

const NAMES = new Intl.DisplayNames(["en"], { type: "language", languageDisplay: "standard" });

/** en_US, en-us → en-US; private parts of a tag (-x-…) are kept as they are. */
export function tagOf(code) {
  const plain = code.replaceAll("_", "-");
  try {
    return Intl.getCanonicalLocales(plain)[0];
  } catch {
    return plain;
  }
}

/** The language of a tag without region and variant: en-US → en. */
export const baseOf = (tag) => tagOf(tag).split("-")[0].toLowerCase();

/** "English (United States)", with a private part as words: "Vietnamese (Vietnam), south". */
export function languageName(tag) {
  const [standard, ...own] = tagOf(tag).split("-x-");
  const name = nameOf(NAMES, standard) ?? tag;
  return own.length ? `${name}, ${own.join(" ")}` : name;
}

/** "German (Deutsch)": in English and in the language itself. */
export function fullName(tag) {
  const english = languageName(tag);
  try {
    const own = nameOf(new Intl.DisplayNames([tag], { type: "language" }), tagOf(tag));
    return own && own.toLowerCase() !== english.toLowerCase() ? `${english} (${own})` : english;
  } catch {
    return english;
  }
}

function nameOf(names, tag) {
  try {
    return names.of(tag);
  } catch {
    return undefined; // not a tag
  }
}

const PIPER = /^[a-z]{2,3}_[A-Z]{2}-(.+)-(?:x_low|low|medium|high)(?:\/(.+))?$/; // en_US-joe-medium, en_GB-vctk-medium/p225
const KOKORO = /^[a-z]([fm])_(\w+)$/; // af_heart

/** The name of a voice for people. Many engines name voices by a code. */
export function voiceName(name, language) {
  const piper = PIPER.exec(name);
  if (piper) return [capital(piper[1]), piper[2]].filter(Boolean).join(" ");
  const kokoro = KOKORO.exec(name);
  if (kokoro) return `${capital(kokoro[2])} (${kokoro[1] === "f" ? "female" : "male"})`;
  if (language && tagOf(name) === tagOf(language)) return languageName(name);
  return name;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1).replaceAll("_", " ");
