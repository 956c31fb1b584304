"""Recognise that an endpoint has refused a prompt because it is too long, and read the numbers of tokens. Pure.

Servers agree neither on the status nor on the words: OpenAI has a code; vLLM, SGLang, TGI, llama.cpp, LM Studio, Ollama
and the hosted models of others have a sentence, some of them in the stream of a reply that has status 200.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CODES = {"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded", "request_too_large"}
_REFUSED = re.compile(
    r"(?:context|prompt|sequence|input)[ _](?:length|window|size|limit)"
    r"|(?:prompt|input|request|messages?|conversation) (?:\w+ ){0,3}too (?:long|large|big)"
    r"|too many (?:input |prompt )?tokens|token count .{0,40}exceeds|exceeds? .{0,40}(?:number of tokens|token limit|context)"
    r"|reduce (?:the|your) (?:length|prompt|input|message)|max_(?:completion_)?tokens must be (?:at least|greater than) \d, got -"
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be|longer than the model's|n_keep",
    re.IGNORECASE,
)
_TOO_LARGE_STATUS, _RATE_LIMIT = 413, 429
_TOO_LARGE = re.compile(r"request too large|too large for", re.IGNORECASE)
"""A limit of tokens per minute counts as too long a prompt only where one request alone exceeds it."""

_N = r"(\d[\d,]*)"
_WINDOW = re.compile(
    rf"maximum (?:context|prompt|input|sequence|model)[ -]length(?: is| of|:)?(?: only)? {_N}"
    rf"|context (?:length|window|size)(?: is| of|:)?(?: only)? {_N}|context (?:length|window|size) \({_N}"
    rf"|n_ctx\W{{1,4}}{_N}|{_N} maximum context|> {_N} maximum|must be <= {_N}|tokens allowed \({_N}|Limit {_N}, Requested",
    re.IGNORECASE,
)
_PROMPT = re.compile(
    rf"{_N} (?:tokens )?(?:in (?:the|your) (?:messages|prompt)|from the input|of text input)"
    rf"|{_N} input tokens|(?:prompt|request|input) contains (?:at least )?{_N}|resulted in {_N} tokens"
    rf"|(?:input|request|prompt) \({_N} tokens|too long: {_N} tokens|first {_N} tokens|n_keep: {_N}|Given: {_N} `?inputs"
    rf"|(?:token count|total length) \(?{_N}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TooLong:
    """A refusal. 0: the server has not said it."""

    window: int = 0
    """Tokens of prompt and reply that the model takes."""
    prompt: int = 0
    """Tokens of the refused prompt."""


def read_refusal(status: int, reason: str, details: Mapping[str, Any]) -> TooLong | None:
    """Return what a server says about a prompt that is too long; None: it has failed for another reason.

    Args:
        status: HTTP status; 0 for an error in a stream.
        reason: The server's message.
        details: The JSON object of the error.
    """
    named = {details.get("code"), details.get("type")} & _CODES
    pattern = _TOO_LARGE if status == _RATE_LIMIT else _REFUSED
    if not (named or status == _TOO_LARGE_STATUS or pattern.search(reason)):
        return None
    window, prompt = _number(details.get("n_ctx")), _number(details.get("n_prompt_tokens"))
    return TooLong(window or _first(_WINDOW, reason), prompt or _first(_PROMPT, reason))


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _first(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    digits = next(filter(None, found.groups()), "0") if found else "0"
    return int(digits.replace(",", "")[:9])
