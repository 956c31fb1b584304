"""A streamer and a stopping criterion for the library's `generate`: text as it is generated, and an early stop."""

from collections.abc import Callable
from typing import Any

from services.llm.engine import Usage

OnText = Callable[[str], None]
Stopped = Callable[[], bool]


class TextStreamer:
    """Passes the text of generated tokens on as soon as no later token can change it."""

    def __init__(self, tokenizer: Any, on_text: OnText, usage: Usage | None = None) -> None:
        """Without `usage` the tokens are audio codes: `on_text` then gets an empty string for each, as a keep-alive."""
        self._tokenizer, self._on_text, self._usage = tokenizer, on_text, usage
        self._ids: list[int] = []
        self._passed_on = 0  # characters
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        if not self._prompt_seen:  # the first call passes the prompt
            self._prompt_seen = True
            return
        if self._usage is None:
            self._on_text("")
            return
        self._ids += value.reshape(-1).tolist()
        self._usage.reply = len(self._ids)
        self._pass_on(self._text().rstrip("\ufffd"))

    def end(self) -> None:
        if self._usage is not None:
            self._pass_on(self._text())

    def _text(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return text

    def _pass_on(self, text: str) -> None:
        fresh, self._passed_on = text[self._passed_on :], max(self._passed_on, len(text))
        self._on_text(fresh)


def stopping_criteria(stopped: Stopped) -> Any:
    """Return criteria that end `generate` at the next token once `stopped` returns True."""
    import torch
    from transformers import StoppingCriteriaList

    def check(ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((ids.shape[0],), stopped(), device=ids.device, dtype=torch.bool)

    return StoppingCriteriaList([check])
