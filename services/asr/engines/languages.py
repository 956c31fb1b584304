"""What a model calls a language, from what BCP 47 calls it. Pure."""

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
"""Codes that mean the same, or what a model knows it as, where it does not know the code itself. Whisper's are not all ISO's."""

UNKNOWN = frozenset({"", "auto", "und", "mul"})
"""Whatever is spoken."""

_SHOWN = 12


def model_language(language: str, known: AbstractSet[str], *, detects: bool) -> str:
    """The model's code for a BCP 47 tag; empty where it is to find out, or says of no language that it knows it.

    Raises:
        ValueError: it does not know the language, or cannot find out.
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
    found = "cannot find out the language" if code in UNKNOWN else f"has no {language!r}"
    raise ValueError(f"the recogniser {found}: it knows {len(known)} ({shown})")
