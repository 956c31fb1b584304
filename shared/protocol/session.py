"""What a session is set to, and what was said in it: the values that travel inside frames.

Pure values. The edge and the workers read and store them.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from shared.settings_table import Setting, read_table

RATE_HZ = 16_000
"""Sample rate of all audio on `in` and `speech` streams."""
CASCADE, OMNI = "cascade", "omni"
ROUTES = (CASCADE, OMNI)
"""The ways from what the person said to the reply: see `SessionSettings.route`."""
MAX_TEXT = 8192
"""Characters of one text: a typed turn, or a sentence that the agent says word for word."""
MAX_INSTRUCTIONS = 32_768
"""Characters of a system prompt."""


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
class Example:
    """A short exchange that shows the chat model how the agent talks. A small model learns more from it than from rules."""

    person: str
    agent: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text in one language."""

    language: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What an agent sets for the chat model; None and empty: as the worker's settings say."""

    model: str = ""
    """Another model of the same endpoint."""
    temperature: float | None = None
    reply_tokens: int | None = None
    """Longest reply, if that is less than the worker's."""

    def asked(self) -> set[str]:
        """The fields that the engine has to know: those with a value, but the length, which the stage itself limits."""
        given = {"model": self.model or None, "temperature": self.temperature}
        return {name for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings of a session.

    This is the table of what a client may set for its own conversation; the environment sets the defaults. Fields travel in
    frames in this order: add new ones at the end.
    """

    detect_turns: Annotated[
        bool,
        Setting(
            "Detect when a turn is over; false: push to talk, the client says when",
            page="Notice when I have finished speaking. Off: hold a button, or the space bar, to talk",
        ),
    ] = True
    threshold: Annotated[float, Setting("Speech probability from which a window counts as speech", 0, 1)] = 0.5
    start_ms: Annotated[int, Setting("Speech needed before a turn begins", 20, 1000, "ms")] = 100
    pause_ms: Annotated[
        int, Setting("Silence after which the turn may be over; at most endpoint_ms", 60, 5000, "ms")
    ] = 160
    endpoint_ms: Annotated[
        int, Setting("Silence after which a turn is over", 100, 5000, "ms", page="Silence after which a turn is over")
    ] = 500
    preroll_ms: Annotated[
        int, Setting("Audio from before the first speech that the recogniser gets", 0, 2000, "ms")
    ] = 300
    longest_ms: Annotated[
        int, Setting("A longer turn is ended at this length, unless the client ends its turns", 1000, 600_000, "ms")
    ] = 60_000
    create_reply: Annotated[bool, Setting("Reply to every turn; false: only when the client asks")] = True
    interrupt_reply: Annotated[bool, Setting("Speech during a reply interrupts it")] = True
    language: Annotated[
        str,
        Setting(
            "Language that the person speaks",
            longest=35,
            pattern="[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*",
            shape="a language tag such as en or pt-BR",
            page="Language",
        ),
    ] = "en"
    voice: Annotated[str, Setting("Voice of the agent; empty: the engine's default", longest=100, page="Voice")] = ""
    speed: Annotated[float, Setting("Speaking rate; 1 is the voice's own", 0.25, 4, page="Speaking rate")] = 1.0
    instructions: Annotated[
        str,
        Setting("System prompt: who the agent is, and how it answers", longest=MAX_INSTRUCTIONS, page="Instructions"),
    ] = ""
    spoken: Annotated[bool, Setting("Speak the replies; false: send only their text")] = True
    adapt_endpoint: Annotated[
        bool, Setting("Let the endpoint engine, where there is one, decide how much silence ends a turn")
    ] = True
    complete_ms: Annotated[
        int, Setting("smart-turn: silence that ends a turn that sounds complete; fused: the shortest", 100, 5000, "ms")
    ] = 250
    incomplete_ms: Annotated[
        int,
        Setting("smart-turn: silence that ends a turn that sounds incomplete; fused: the longest", 100, 10_000, "ms"),
    ] = 2000
    speculations: Annotated[
        int, Setting("Pauses of a turn at which its reply is prepared; 0: only when the turn is over", 0, 20)
    ] = 3
    speculate_longest_ms: Annotated[
        int, Setting("No reply is prepared at the pauses of a turn longer than this", 0, 600_000, "ms")
    ] = 10_000
    interrupt_ms: Annotated[
        int, Setting("Speech needed to pause a reply, where that is more than start_ms", 0, 5000, "ms")
    ] = 0
    min_words: Annotated[int, Setting("Recognised words after which a paused reply does not resume", 0, 20)] = 1
    echo_guard_ms: Annotated[
        int, Setting("Time from the start of a reply in which its echo cannot interrupt it", 0, 10_000, "ms")
    ] = 0
    greeting: Annotated[
        str, Setting("What the agent says first, word for word; empty: it waits", longest=MAX_TEXT, page="Greeting")
    ] = ""
    idle_ms: Annotated[
        int, Setting("Silence after which the agent asks whether anyone is there; 0: never", 0, 3_600_000, "ms")
    ] = 0
    idle_prompt: Annotated[
        str,
        Setting(
            "What the agent says when it has heard nothing for idle_ms; empty: the chat model finds words",
            longest=MAX_TEXT,
        ),
    ] = "Are you still there?"
    idle_limit: Annotated[
        int, Setting("Unanswered idle prompts after which the agent says goodbye and hangs up; 0: never", 0, 100)
    ] = 2
    goodbye: Annotated[
        str, Setting("What the agent says before it hangs up, word for word; empty: nothing", longest=MAX_TEXT)
    ] = ""
    tools: tuple[Tool, ...] = ()
    """What the chat model may ask the client to do. Only Realtime clients can set it and `tool_choice`."""
    tool_choice: str = "auto"
    """`auto`, `none` (the model is not shown the tools), `required`, or the name of the one tool that it is to ask for."""
    hints: Annotated[str, Setting("Words and names that the recogniser should expect", longest=4096)] = ""
    route: Annotated[
        str,
        Setting(
            "cascade: the chat model gets the transcript; omni: it gets the audio, and may speak the reply itself",
            choices=ROUTES,
        ),
    ] = CASCADE
    examples: tuple[Example, ...] = ()
    """They follow the instructions in the prompt. Only an agent's file can set them, and `chat`."""
    chat: ChatOptions = ChatOptions()
    may_record: Annotated[bool, Setting("Whoever speaks agrees to a recording of this session: see PARLEY_RECORD")] = (
        False
    )
    speak_failures: Annotated[
        str,
        Setting(
            "Say failure_text when a turn has failed; auto: on the phone, whose caller sees no errors",
            choices=("auto", "always", "never"),
        ),
    ] = "auto"
    failure_text: Annotated[
        str,
        Setting("What the agent says when a turn has failed; empty: a sentence in the session's language", longest=300),
    ] = ""
    failure_limit: Annotated[
        int, Setting("Failed turns in a row after which a phone call ends with the goodbye; 0: never", 0, 100)
    ] = 3
    failure_texts: tuple[Phrase, ...] = ()
    """By language, where `failure_text` is empty. Only an agent's file can set them."""


SESSION_TABLE = read_table(SessionSettings)
"""The settings of a session, by name."""


def with_fitting_pause(settings: SessionSettings) -> SessionSettings:
    """The same settings, with the pause shortened where it would be longer than the endpoint."""
    return replace(settings, pause_ms=min(settings.pause_ms, settings.endpoint_ms))


def with_instructions(settings: SessionSettings, instructions: str) -> SessionSettings:
    """The same settings with these instructions; other instructions do not keep the examples: they are somebody else's."""
    if instructions == settings.instructions:
        return settings
    return replace(settings, instructions=instructions, examples=())


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
    """The turn in which it was said; 0 for what was said before the first turn."""
    interrupted: bool = False
    """An assistant message that was not heard to its end."""
    calls: tuple[ToolCall, ...] = ()
    """Tools that an assistant message asks for."""
    answers: str = ""
    """The id of the call that a tool message answers."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a synthesised sentence or of an utterance, with its times."""

    text: str
    start: int
    """Samples since the start of it, at the engine's rate."""
    end: int
    """Samples since the start of it; one past the last."""
