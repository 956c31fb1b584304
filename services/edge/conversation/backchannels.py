"""Words that say "I am listening" and take no turn, and words that claim it, by language. Pure.

A word that also answers a question ("no") is not in the list: a listener who says it wants the floor.
"""

import re

_WORDS: dict[str, str] = {
    "en": "uh-huh uhhuh mhm mm-hmm mmhmm mm hm hmm hmhm uh um ah oh aha yeah yep yup yes ok okay right sure "
    "alright gotcha cool wow really true exactly well mmm mm-hum mm-mm hum huh",
    "de": "hm hmm mhm aha ja jaja genau okay ok gut richtig stimmt klar ach ah oh so achso äh",
    "fr": "hm hmm mhm ouais oui ok okay d'accord voilà bien ah oh bon exact",
    "es": "hm hmm mhm ajá aja sí si ya ok okay vale claro bueno bien ah oh exacto",
    "it": "hm hmm mhm ah oh sì si già ok okay va bene certo esatto ecco",
    "pt": "hm hmm mhm aham uhum sim é tá ok okay certo claro bom ah oh exato pois",
    "nl": "hm hmm mhm ja jawel ok oké okay goed precies ah oh klopt",
    "hi": "हम्म हूँ हूं हाँ हां जी अच्छा ठीक है ओके सही",
    "ja": "うん うんうん はい ええ へえ そう そうですね なるほど ああ ほんと",
    "zh": "嗯 嗯嗯 哦 啊 对 对对 是 好 好的 行 明白",
}
_PHRASES: dict[str, tuple[str, ...]] = {
    "en": ("i see", "i see ya", "got it", "uh oh"),
    "de": ("ich verstehe",),
    "fr": ("je vois",),
}
"""Backchannels whose words alone are none."""

_CLAIMS: dict[str, str] = {
    "en": "stop wait no nope nah not don't hold hang excuse listen but sorry please why what who when where how which can could",
    "de": "stopp stop halt warte warten nein nicht moment entschuldigung aber bitte warum was wer wann wo wie",
    "fr": "stop attends attendez non pas arrête arrêtez moment pardon mais pourquoi quoi qui quand où comment",
    "es": "para pare espera espere no alto momento perdón pero por qué quién cuándo dónde cómo",
    "it": "ferma aspetta aspetti no non basta scusa ma perché cosa chi quando dove come",
    "pt": "para pare espera espere não desculpa mas por que quem quando onde como",
    "nl": "stop wacht nee niet sorry maar waarom wat wie wanneer waar hoe",
    "hi": "रुको रुकिए नहीं मत क्यों क्या कौन कब कहाँ कैसे",
    "ja": "待って ちょっと やめて いいえ 違う",
    "zh": "停 等等 等一下 不 不是 别 为什么",
}
"""Words with which people take the floor: they count however the speech sounds."""
_BY_LANGUAGE = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_CLAIMS_BY_LANGUAGE = {language: frozenset(words.split()) for language, words in _CLAIMS.items()}
_WORD = re.compile(r"[\w'\u2019-]+")
_DEVANAGARI = re.compile(r"[\u0900-\u0963\u0966-\u097f]+")  # `re` does not count vowel signs as word characters


def words_of(text: str) -> list[str]:
    """The words of a transcript, in lower case, without punctuation."""
    text = text.lower().replace("\u2019", "'")
    return _DEVANAGARI.findall(text) if _DEVANAGARI.search(text) else _WORD.findall(text)


def takes_the_floor(text: str, language: str, min_words: int, *, murmur: bool = False) -> bool:
    """Whether these words are more than listening: `min_words` at least, and not only backchannels.

    `murmur`: they sound, or may sound, like a murmur. Then only words with which people take the floor count.
    """
    words, primary = words_of(text), language.partition("-")[0].lower()
    if primary not in _WORDS:
        primary = "en"
    if len(words) < max(1, min_words) or _BY_LANGUAGE[primary].issuperset(words):
        return False
    if " ".join(words) in _PHRASES.get(primary, ()):
        return False
    return not murmur or not _CLAIMS_BY_LANGUAGE[primary].isdisjoint(words)
