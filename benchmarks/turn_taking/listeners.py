"""Scenes of one sound into a reply: murmurs of a person who listens, and short interruptions. By rule."""

from collections.abc import Sequence

from benchmarks.speech.speakers import Speaker
from deploy.client.scene import Cue, Scene

MURMURS = ("uh-huh", "mm-hmm", "hmm", "aha", "sure", "yeah", "okay", "right", "I see", "oh")
"""Without "mhm": a synthetic voice spells it."""
INTERRUPTIONS = (
    "Stop!",
    "Wait!",
    "No!",
    "Wait a moment.",
    "Stop it.",
    "No, no.",
    "Hold on.",
    "Hang on!",
    "Excuse me.",
    "Not that.",
)
EACH = 40
"""Scenes of each kind; the speakers take turns, so that each says something else."""
QUESTION, INTO_REPLY_S = "Please tell me something long.", 1.3


def listeners(speakers: Sequence[Speaker]) -> list[tuple[Scene, Speaker]]:
    """Return the scenes, each with its speaker."""
    return [
        (
            _scene(kind, what, number, texts[number % len(texts)]),
            speakers[(number + number // len(texts)) % len(speakers)],
        )
        for kind, what, texts in (("murmur", "murmur", MURMURS), ("short", "say", INTERRUPTIONS))
        for number in range(EACH)
    ]


def _scene(kind: str, what: str, number: int, text: str) -> Scene:
    cues = (Cue("at", 0.5, "say", QUESTION, spoken=True), Cue("reply", INTO_REPLY_S, what, text, spoken=True))
    return Scene(f"{kind} {number:02d} {text}", "One sound into a reply.", cues)
