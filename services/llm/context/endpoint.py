"""The window of a model behind an endpoint: how much it takes, and how many tokens a prompt has, as far as both are known. Pure.

The endpoint's tokenizer is not known. Tokens are estimated by the bytes of a prompt, and each reply corrects the estimate
by the count that the endpoint reports.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from services.llm.context.refusal import TooLong
from services.llm.context.window import Fitted, fit, size
from shared.protocol.session import Message, Tool

TOKENS_PER_BYTE = 0.25
"""The first estimate: most tokenizers have 3 to 5 bytes a token, in any script."""
LOWEST, HIGHEST = 0.1, 2.0
"""Limits of the estimate. A server that cuts prompts without saying so reports too few tokens."""
MARGIN = 1.03
"""The next prompt may have more tokens per byte than the last ones."""
SHORTER = 0.7
"""Length of the next prompt, as a share of a refused one, where the server does not name its window."""
_LISTED = ("max_model_len", "loaded_context_length", "context_window", "context_length", "max_context_length", "n_ctx")


def listed_window(entry: Mapping[str, Any]) -> int:
    """Return the window that a server's list of models names, in tokens; 0: none.

    vLLM, SGLang, llama.cpp, LM Studio and most hosts of several models name it, each in its own way.
    """
    meta = entry.get("meta")
    found = [fields.get(name) for fields in (entry, meta) if isinstance(fields, Mapping) for name in _LISTED]
    return next((value for value in found if isinstance(value, int) and value > 0), 0)


class EndpointWindow:
    """The window of one model of an endpoint, shared by all its conversations."""

    def __init__(self, window: int, reply_tokens: int) -> None:
        """`window`: tokens of prompt and reply; 0: not known."""
        self._reply_tokens = reply_tokens
        self.limit = max(1, window - reply_tokens) if window else 0
        """Most tokens of a prompt; 0: not known."""
        self._rate = TOKENS_PER_BYTE

    def fit(self, messages: Sequence[Message], tools: Sequence[Tool], prefix: str) -> Fitted:
        """Return the part of the conversation that fits, by the estimate. `prefix`: the beginning of the reply.

        Raises:
            PromptTooLong: the last turn alone does not.
        """

        def count(part: Sequence[Message]) -> int:
            return self._estimate(part, tools, prefix)

        if not self.limit:
            return Fitted(list(messages), count(messages))
        return fit(messages, self.limit, count)

    def _estimate(self, messages: Sequence[Message], tools: Sequence[Tool], prefix: str) -> int:
        return ceil(self._rate * MARGIN * _bytes(messages, tools, prefix))

    def report(self, asked: Sequence[Message], tools: Sequence[Tool], prefix: str, tokens: int) -> None:
        """Correct the estimate by the count of the endpoint: upwards at once, downwards by a tenth."""
        if tokens > 0:
            seen = min(max(tokens / _bytes(asked, tools, prefix), LOWEST), HIGHEST)
            self._rate = max(seen, 0.9 * self._rate + 0.1 * seen)

    def shorten(self, refusal: TooLong, asked: Fitted, tools: Sequence[Tool], prefix: str) -> None:
        """Learn from a refusal, so that the next prompt is shorter than the refused one."""
        self.report(asked.messages, tools, prefix, refusal.prompt)
        estimate = self._estimate(asked.messages, tools, prefix)
        if not refusal.window:
            self.limit = max(1, int(SHORTER * min(self.limit or estimate, estimate)))
            return
        limit = max(1, refusal.window - self._reply_tokens)
        self.limit = min(self.limit or limit, limit)
        if estimate <= self.limit:  # the window is known, so the estimate is wrong
            self._rate = min(HIGHEST, self._rate * self.limit / (SHORTER * estimate))


def _bytes(messages: Sequence[Message], tools: Sequence[Tool], prefix: str) -> int:
    texts = (prefix, *(text for tool in tools for text in (tool.name, tool.description, tool.parameters)))
    return size(messages) + sum(len(text.encode(errors="replace")) for text in texts)
