"""What the library's `generate` puts its tokens into, one after the other, and what ends it early."""

from collections.abc import Callable
from typing import Any

from services.llm.engine import Usage

OnText = Callable[[str], None]
Stopped = Callable[[], bool]


class TokenReader:
    """Gives the text of tokens on, as soon as no later token can change it."""

    def __init__(self, tokenizer: Any, on_text: OnText, usage: Usage | None = None) -> None:
        """Without a `usage` these are no tokens of a text: each only tells that it was made."""
        self._tokenizer, self._on_text, self._usage = tokenizer, on_text, usage
        self._ids: list[int] = []
        self._given = 0  # characters of their text
        self._prompted = False

    def put(self, value: Any) -> None:
        if not self._prompted:  # the first are the prompt's
            self._prompted = True
            return
        if self._usage is None:
            self._on_text("")
            return
        self._ids += value.reshape(-1).tolist()
        self._usage.reply = len(self._ids)
        self._give(self._text().rstrip("\ufffd"))

    def end(self) -> None:
        if self._usage is not None:
            self._give(self._text())

    def _text(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return text

    def _give(self, text: str) -> None:
        fresh, self._given = text[self._given :], max(self._given, len(text))
        self._on_text(fresh)


def ends_when(stopped: Stopped) -> Any:
    """That `generate` ends at the next token once it is `stopped`."""
    import torch
    from transformers import StoppingCriteriaList

    def ends(ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((ids.shape[0],), stopped(), device=ids.device, dtype=torch.bool)

    return StoppingCriteriaList([ends])
