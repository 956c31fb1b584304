"""What thinks of a reply: the contract, and the names of the chat models that come with Parley.

A model may hear, and answer the sound of a turn instead of its words; and one may speak, and need nobody to read its replies
aloud. Those that can say so (`OmniModel`); the others know nothing of it.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.protocol.session import Message, Tool, ToolCall
from shared.protocol.speech import Speech


@dataclass(slots=True)
class Usage:
    """What a reply takes: a model that knows it yields this once among the deltas, and may go on counting in it.

    It is read when the reply is over, also where that was cut off: what was calculated for nobody is paid for too.
    """

    prompt: int = 0
    """Tokens that were read: the conversation, and what was said of the reply before."""
    cached: int = 0
    """Those of them that were not calculated anew."""
    reply: int = 0
    """Tokens that were written, also those that are not said."""
    finish_reason: str = ""
    """Why it ended, in the words of OpenAI's protocol (stop, length, …); empty: nobody knows."""


class ChatModel(Protocol):
    """The loaded model, shared by all conversations of a worker. Its work is done off the event loop."""

    slots: int
    """How many replies it can make at once."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall | Usage, None]:
        """The reply to a conversation, in deltas, as they come; each tool that it asks for once the call is complete.
        Its `Usage`, where the model knows it, at any place among them.

        The first message may have the role `system` (the session's instructions); the last one is
        the user's turn. `prefix` is what an earlier attempt at this very reply has already said: the
        deltas go on after it. A model that cannot go on from there yields nothing, so that the
        reply ends where it was.
        """
        ...

    async def close(self) -> None: ...


class OmniModel(Protocol):
    """A chat model with ears, with a voice, or with both."""

    hears: bool
    """It can be given `audio`."""
    speaks: bool
    """It can be asked to speak, with `voice`."""
    rate_hz: int
    """Of its voice; 0 if it has none."""
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
        """As that of a `ChatModel`.

        `audio` is the user's turn as it sounds, s16le mono at 16 kHz; the messages then end before it. With a `voice` (its
        name, or empty for the model's own) the reply is spoken too: slices of speech between the deltas, in order, always from
        the first sample on, also where there is a `prefix`; who gives no text after it gives no speech either.
        """
        ...

    async def close(self) -> None: ...


def hears(model: Any) -> bool:
    """Whether it can answer the sound of a turn."""
    return bool(getattr(model, "hears", False))


def speaks(model: Any) -> bool:
    """Whether it has a voice of its own."""
    return bool(getattr(model, "speaks", False))


ENGINES = {
    "eliza": "services.llm.engines.eliza:ElizaModel",
    "omni": "services.llm.engines.omni:Omni",
    "openai": "services.llm.engines.openai:OpenAIModel",
    "scripted": "services.llm.engines.scripted:ScriptedModel",
    "scripted-omni": "services.llm.engines.scripted_omni:ScriptedOmni",
    "transformers": "services.llm.engines.transformers:TransformersModel",
}
