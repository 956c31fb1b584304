"""What a session is set to, and what was said in it: the values that travel inside frames.

Pure values. Who reads and stores them is the business of the edge and the workers.
"""

from dataclasses import dataclass

RATE_HZ = 16_000
"""Sample rate of all audio on `in` and `speech` streams."""
CASCADE, OMNI = "cascade", "omni"
"""The ways from what the person said to the reply: see `SessionSettings.route`."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that the chat model may ask the client to do."""

    name: str
    description: str
    parameters: str
    """JSON schema of its arguments."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The chat model asks for a tool."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


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
    adapt_endpoint: bool = True
    """Where the worker has an engine for the end of turns, it sets the silence after which one is over."""
    complete_ms: int = 250
    """That silence where the turn seems complete."""
    incomplete_ms: int = 2_000
    """That silence where it does not."""
    speculations: int = 3
    """Pauses within a turn at which a reply is prepared; 0: never before the turn is over."""
    speculate_longest_ms: int = 10_000
    """No reply is prepared for a turn longer than this before it is over."""
    interrupt_ms: int = 0
    """Speech needed to silence a reply, where that is more than a turn needs to begin."""
    min_words: int = 1
    """Recognised words that make an interruption final; until then the reply is only paused."""
    echo_guard_ms: int = 0
    """For so long after a reply began to play it cannot be interrupted: its echo may be what is heard."""
    greeting: str = ""
    """What the agent says first, word for word."""
    idle_ms: int = 0
    """Silence after which the agent asks whether anyone is there; 0: never."""
    idle_prompt: str = "Are you still there?"
    """What it then says, word for word; empty: the chat model finds words."""
    idle_limit: int = 2
    """After so many unanswered prompts it says goodbye and hangs up; 0: never."""
    goodbye: str = ""
    """What it says before it hangs up, word for word."""
    tools: tuple[Tool, ...] = ()
    """What the chat model may ask the client to do."""
    tool_choice: str = "auto"
    """`auto`, `none` (it is not told of the tools), `required`, or the name of the one tool that it is to ask for."""
    hints: str = ""
    """Words and names that the recogniser may hear."""
    route: str = CASCADE
    """`cascade`: the reply is made from the transcript, and spoken by the tts stage. `omni`: from the sound itself, by a chat
    model that hears; a transcript is made beside it. What such a model says aloud is not spoken again."""


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How one turn is to be answered, where that differs from the session's settings."""

    wants_reply: bool = True
    """False: the turn is transcribed and kept, and nobody answers it."""
    instructions: str | None = None
    """Replaces the session's instructions for this reply."""
    spoken: bool | None = None
    """Replaces the session's `spoken` for this reply."""
    interruptible: bool | None = None
    """Replaces the session's `interrupt_reply` for this reply."""
    say: str | None = None
    """Said word for word; the chat model is not asked."""
    tools: tuple[Tool, ...] = ()
    """Replace the session's tools for this reply, where there are any; for none at all there is `tool_choice`."""
    tool_choice: str | None = None
    """Replaces the session's `tool_choice` for this reply."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said in the conversation, as the chat model gets it."""

    role: str
    """`system`, `user`, `assistant`, or `tool` for the answer to a call."""
    text: str
    turn: int
    """The turn in which it was said; 0 for what was there before the first."""
    interrupted: bool = False
    """An assistant message that was not heard to its end."""
    calls: tuple[ToolCall, ...] = ()
    """Tools that an assistant message asks for."""
    answers: str = ""
    """The id of the call that a tool message answers."""


@dataclass(frozen=True, slots=True)
class Word:
    """When one word of a synthesised sentence, or of an utterance, sounds."""

    text: str
    start: int
    """Samples since the start of it, at the engine's rate."""
    end: int
    """Samples since the start of it; one past the last."""
