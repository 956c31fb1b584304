"""What the ready workers can do, and what they cannot do of a session's settings. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from shared.protocol.session import OMNI, SessionSettings

SHOWN = 500
"""Characters of a list in a message."""
_TWO_LETTERS = 2
_SYNONYMS = frozenset(("in", "iw", "ji", "jv", "jw", "nb", "no", "tl"))
"""Codes of languages that have a second code: models differ in which one they list."""


class Unable(NamedTuple):
    """A setting of a session that cannot be served."""

    key: str
    code: str
    reason: str
    """One line, short enough for a close frame."""
    message: str


@dataclass(frozen=True, slots=True)
class Abilities:
    """What every ready worker of a stage can do: any of them may get the job."""

    voices: tuple[str, ...] = ()
    """The names of voices; empty: unknown."""
    speaks: frozenset[str] = frozenset()
    """Languages of the tts engine, as primary subtags (`de`); empty: any, or unknown. Its voices speak no others."""
    understands: frozenset[str] = frozenset()
    """Languages of the asr engine."""
    hears: bool = False
    """The chat model takes audio."""
    options: frozenset[str] = frozenset()
    """The options of a single reply that the chat engine takes, by their names in `ChatOptions`."""

    def missing(self, settings: SessionSettings) -> Iterator[Unable]:
        """Return what these settings ask for and the workers cannot do."""
        voice, language = settings.voice, settings.language
        if voice and self.voices and voice.partition("+")[0] not in self.voices:
            shown = ", ".join(self.voices)[:SHOWN]
            yield Unable("voice", "unknown_voice", "unknown voice", f"voice {voice[:100]!r}: known are {shown}")
        if not _includes(self.speaks, language):
            yield _unknown_language(language, "speaks", self.speaks)
        if not _includes(self.understands, language):
            yield _unknown_language(language, "understands", self.understands)
        if settings.route == OMNI and not self.hears:
            message = "route 'omni': the chat model cannot hear; known is 'cascade'"
            yield Unable("route", "cannot_hear", "route omni: the chat model cannot hear", message)
        for name in sorted(settings.chat.asked() - self.options):
            key = "llm_model" if name == "model" else name
            message = f"{key}: the chat engine has one for all sessions, PARLEY_{key.upper()}"
            yield Unable(key, "cannot_choose", message, message)


def _unknown_language(language: str, does: str, known: frozenset[str]) -> Unable:
    message = f"language {language!r}: this Parley {does} {', '.join(sorted(known))[:SHOWN]}"
    return Unable("language", "unknown_language", f"unknown language {language}", message)


def _includes(known: frozenset[str], language: str) -> bool:
    """Whether a language is known. Codes of three letters, tags that ask for detection, and synonyms are left to the engine."""
    code = language.lower().replace("_", "-").partition("-")[0]
    return not known or len(code) > _TWO_LETTERS or code in known | _SYNONYMS
