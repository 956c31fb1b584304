"""Maps BCP 47 language tags to the codes that a model uses. Pure."""

from collections.abc import Set as AbstractSet

OTHER_NAMES = {
    "cmn": "zh",
    "fil": "tl",
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jv": "jw",
    "jw": "jv",
    "nb": "no",
    "tl": "fil",
    "yue": "zh",
}
"""A code to try if the model does not know the tag's own: a synonym, or Whisper's, which is not always ISO's."""

UNKNOWN = frozenset({"", "auto", "und", "mul"})
"""Tags that ask for language detection."""

_SHOWN = 12


def model_language(language: str, known: AbstractSet[str], *, detects: bool) -> str:
    """Return the model's code for a BCP 47 tag; empty: the model detects the language.

    `known` are the model's codes; empty if it does not list them: then any code is passed on.

    Raises:
        ValueError: the model does not know the language, or cannot detect it.
    """
    code = language.lower().replace("_", "-").partition("-")[0]
    if code in UNKNOWN:
        if detects or not known:
            return ""
        if len(known) == 1:
            return min(known)
    elif not known or code in known:
        return code
    elif OTHER_NAMES.get(code) in known:
        return OTHER_NAMES[code]
    shown = ", ".join(sorted(known)[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    problem = "cannot detect the language" if code in UNKNOWN else f"does not know the language {language!r}"
    raise ValueError(f"the recogniser {problem}; it knows {len(known)} ({shown})")
