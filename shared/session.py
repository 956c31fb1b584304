"""What a session is set to, and what was said in it: the values that travel inside frames.

Pure values. Who reads and stores them is the business of the edge and the workers.
"""

from dataclasses import dataclass

RATE_HZ = 16_000
"""Sample rate of all audio on `in` and `speech` streams."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a client may set for its own conversation; every field has a default that works."""

    detect_turns: bool = True
    """False: the client says itself when a turn is over (push-to-talk)."""
    threshold: float = 0.5
    """Speech probability, 0..1, from which a window counts as speech."""
    start_ms: int = 100
    """Speech needed before a turn begins."""
    pause_ms: int = 160
    """Silence after which the turn may be over."""
    endpoint_ms: int = 500
    """Silence after which the turn is over."""
    preroll_ms: int = 300
    """Audio from before the first speech window that the recogniser hears too."""
    longest_ms: int = 60_000
    """A turn longer than this is committed as it stands."""
    create_reply: bool = True
    """A committed turn is answered without being asked for."""
    interrupt_reply: bool = True
    """Speech during a reply stops the reply."""
    language: str = "en"
    """BCP 47 tag of what the person speaks."""
    voice: str = ""
    """Name of the voice that replies; empty: the engine's default."""
    speed: float = 1.0
    """Speaking rate, 1.0 is the voice's own."""
    instructions: str = ""
    """The system prompt."""
    spoken: bool = True
    """False: replies are text only."""


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How one turn is to be answered, where that differs from the session's settings."""

    wanted: bool = True
    """False: the turn is transcribed and kept, and nobody answers it."""
    instructions: str | None = None
    """Replaces the session's instructions for this reply."""
    spoken: bool | None = None
    """Replaces the session's `spoken` for this reply."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said in the conversation, as the chat model gets it."""

    role: str
    """`system`, `user` or `assistant`."""
    text: str
    turn: int
    """The turn in which it was said; 0 for what was there before the first."""
    interrupted: bool = False
    """An assistant message that was not heard to its end."""


@dataclass(frozen=True, slots=True)
class Word:
    """When one word of a synthesised sentence sounds."""

    text: str
    start: int
    """Samples since the start of the sentence, at the engine's rate."""
    end: int
    """Samples since the start of the sentence; one past the last."""
