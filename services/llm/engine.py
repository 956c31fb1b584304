"""What thinks of a reply: the contract, and the names of the chat models that come with Parley."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from shared.session import Message, Tool, ToolCall


class ChatModel(Protocol):
    """The loaded model, shared by all conversations of a worker. Its work is done off the event loop."""

    slots: int
    """How many replies it can make at once."""

    async def load(self) -> None:
        """Load and warm up; the worker is ready when this returns."""
        ...

    def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = ()
    ) -> AsyncGenerator[str | ToolCall, None]:
        """The reply to a conversation, in deltas, as they come; each tool that it asks for once the call is complete.

        The first message may have the role `system` (the session's instructions); the last one is
        the user's turn. `prefix` is what an earlier attempt at this very reply has already said: the
        deltas go on after it. A model that cannot go on from there yields nothing, so that the
        reply ends where it was.
        """
        ...

    async def close(self) -> None: ...


ENGINES = {
    "eliza": "services.llm.eliza:ElizaModel",
    "openai": "services.llm.openai:OpenAIModel",
    "scripted": "services.llm.scripted:ScriptedModel",
    "transformers": "services.llm.transformers:TransformersModel",
}
