"""Words that say "I am listening" and take no turn, by language. Pure.

A word that also answers a question ("no") is not in the list: a listener who says it wants the floor.
"""

import re

_WORDS: dict[str, str] = {
    "en": "uh-huh uhhuh mhm mm-hmm mmhmm mm hm hmm hmhm uh um ah oh aha yeah yep yup yes ok okay right sure "
    "alright gotcha cool wow really true exactly",
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
_BY_LANGUAGE = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_WORD = re.compile(r"[\w'\u2019-]+")
_DEVANAGARI = re.compile(r"[\u0900-\u0963\u0966-\u097f]+")  # `re` does not count vowel signs as word characters


def words_of(text: str) -> list[str]:
    """The words of a transcript, in lower case, without punctuation."""
    text = text.lower().replace("\u2019", "'")
    return _DEVANAGARI.findall(text) if _DEVANAGARI.search(text) else _WORD.findall(text)


def takes_the_floor(text: str, language: str, min_words: int) -> bool:
    """Whether these words are more than listening: `min_words` at least, and not only backchannels."""
    words = words_of(text)
    known = _BY_LANGUAGE.get(language.partition("-")[0].lower(), _BY_LANGUAGE["en"])
    return len(words) >= max(1, min_words) and not known.issuperset(words)
