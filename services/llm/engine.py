"""The contracts of chat models, and the names of the engines that come with Parley.

Most models take text and write text (`ChatModel`). An `OmniModel` can also take the audio of the user's turn instead of
its transcript, speak its replies itself, or both.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.protocol.reasons import CONTENT_FILTER, EMPTY_REPLY, MAX_OUTPUT_TOKENS
from shared.protocol.session import Message, Tool, ToolCall
from shared.protocol.speech import Speech


@dataclass(frozen=True, slots=True)
class Shortening:
    """What a prompt leaves out of the conversation, so that it fits into the model's window."""

    turns: int = 0
    characters: int = 0
    """How much of the results of tools is missing."""
    refusals: int = 0
    """How often an endpoint refused a longer prompt before."""


NOTHING_LEFT_OUT = Shortening()


@dataclass(slots=True)
class Usage:
    """Token counts of one reply. A model that counts yields this object once, and may update it until the reply ends.

    The stage reads it after the reply ends, also after a cancelled one: tokens that nobody receives still cost.
    """

    prompt: int = 0
    """Tokens of the prompt: the conversation, and the text of an earlier attempt at this reply."""
    cached: int = 0
    """Prompt tokens that came from the KV cache."""
    reply: int = 0
    """Tokens that were generated, including those that are not spoken."""
    finish_reason: str = ""
    """Why the reply ended, as in OpenAI's protocol (stop, length, …); empty if unknown."""
    window: int = 0
    """Most tokens of a prompt; 0 if unknown."""
    left_out: Shortening = NOTHING_LEFT_OUT


class EmptyReply(RuntimeError):
    """The model has answered with nothing that is to be heard, and was asked more than once. The message says why."""

    def __init__(self, message: str, code: str = EMPTY_REPLY) -> None:
        """`code`: one of `reasons.FAILURES`."""
        super().__init__(message)
        self.code = code


def why_cut(finish_reason: str) -> str:
    """Why a reply with this `Usage.finish_reason` ends early, one of `reasons.CUTS`; empty: it does not."""
    return _CUT.get(finish_reason.lower(), "")


_CUT = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), MAX_OUTPUT_TOKENS),
    **dict.fromkeys(("content_filter", "refusal", "safety", "recitation", "prohibited_content"), CONTENT_FILTER),
}
"""The reasons of OpenAI's protocol, and those of other providers that servers pass on in it."""


class PromptTooLong(ValueError):
    """The last turn does not fit into the model's window. The message has the numbers of tokens, where they are known."""


class ChatModel(Protocol):
    """A loaded model, shared by all conversations of a worker. It must not block the event loop."""

    slots: int
    """Maximum number of concurrent replies."""

    async def load(self) -> None:
        """Load the model and warm it up. The worker is ready when this returns.

        Raises:
            EngineNotReady: a server that it needs does not answer yet. The worker waits, and loads a new engine.
            UnknownEngine: the model or a library is missing, or the model does not work.
        """
        ...

    def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """Stream the reply to a conversation: text deltas, each tool call once it is complete, and `Usage` at any
        point.

        Args:
            messages: The conversation. The first message may have the role `system` (the session's instructions), the
                last one is the user's turn.
            language: BCP 47.
            prefix: Text of this reply that an earlier attempt has published. The deltas continue after it. A model that
                cannot continue from there yields nothing: the reply then ends with the prefix.
            tools: The tools that the model may call.

        Raises:
            PromptTooLong: the last turn is too long for the model. Older turns are left out where needed.
            ValueError: the request is not valid.
            EmptyReply: no text, call or speech came of several attempts. An engine that tries once yields nothing instead.
            EngineLost: the device failed, or the model stalled.
        """
        ...

    async def close(self) -> None: ...


class Adjustable(Protocol):
    """The additional contract of a chat model that takes options for a single reply.

    Its `reply` has the parameter `options: ChatOptions | None`. The stage passes it where the session has any that are listed here.
    """

    chat_options: frozenset[str]
    """The names of the fields of `ChatOptions` that it takes: `model`, `temperature`."""


class OmniModel(Protocol):
    """A chat model with audio input, audio output, or both."""

    audio_input: bool
    """Whether `reply` accepts `audio`."""
    audio_output: bool
    """Whether `reply` accepts `voice`."""
    rate_hz: int
    """Sample rate of the model's voice; 0 without audio output."""
    slots: int

    async def load(self) -> None: ...

    def reply(
        self,
        messages: Sequence[Message],
        *,
        language: str,
        prefix: str = "",
        tools: Sequence[Tool] = (),
        audio: bytes = b"",
        voice: str | None = None,
    ) -> AsyncGenerator[str | ToolCall | Speech | Usage, None]:
        """Stream a reply, as `ChatModel.reply` does.

        Args:
            audio: The user's turn, s16le mono at 16 kHz. The messages then end before this turn.
            voice: Speak the reply, too, with this voice; empty for the model's default voice, None for text only.
                Slices of speech come between the deltas, in order. They start at the first sample even if there is a
                `prefix`; a model that cannot continue after the prefix yields no speech either.
        """
        ...

    async def close(self) -> None: ...


def has_audio_input(model: Any) -> bool:
    """Whether the model can answer the audio of a turn."""
    return bool(getattr(model, "audio_input", False))


def has_audio_output(model: Any) -> bool:
    """Whether the model can speak its replies."""
    return bool(getattr(model, "audio_output", False))


def chat_options(model: Any) -> frozenset[str]:
    """The options of a single reply that the model takes; see `Adjustable`."""
    return getattr(model, "chat_options", frozenset())


ENGINES = {
    "eliza": "services.llm.engines.eliza:ElizaModel",
    "llama-cpp": "services.llm.engines.llama_cpp:LlamaCppModel",
    "omni": "services.llm.engines.omni:Omni",
    "openai": "services.llm.engines.openai:OpenAIModel",
    "scripted": "services.llm.engines.scripted:ScriptedModel",
    "scripted-omni": "services.llm.engines.scripted_omni:ScriptedOmni",
    "transformers": "services.llm.engines.transformers:TransformersModel",
}
