"""Reads the answer of a server to `/v1/audio/transcriptions`: a stream of events, or one JSON object. Pure.

Servers differ. OpenAI streams `transcript.text.delta` and `.done`, vLLM chunks like those of a chat. A server that does not
stream ignores `stream` and answers with JSON. `verbose_json` adds segments, which say how sure the model was.
"""

import json
from collections.abc import Mapping
from typing import Any

from services.asr.engines.guards import is_no_speech
from services.asr.engines.model import Recognition

LARGEST_BYTES = 1 << 20
"""An answer that is longer is not the transcript of half a minute."""
_DONE = "[DONE]"


class BadAnswer(ValueError):
    """The answer is not a transcript, or it is cut off."""


class TranscriptionAnswer:
    """Takes the bytes of one answer as they come, and returns what was recognised at the end."""

    def __init__(self, content_type: str) -> None:
        self.streams = content_type.lower().startswith("text/event-stream")
        """Whether the server sends events."""
        self._content_type = content_type
        self._received = 0
        self._buffer = bytearray()  # of a stream: the line that is not complete; else the whole answer
        self._deltas: list[str] = []
        self._text: str | None = None  # of the event that ends a stream
        self._complete = False

    def feed(self, data: bytes) -> bool:
        """Take more bytes. Returns whether they have more of the transcript: a stream may send only comments.

        Raises:
            BadAnswer: the answer is too long, or one of its events is malformed or reports an error.
        """
        self._received += len(data)
        if self._received > LARGEST_BYTES:
            raise BadAnswer("the answer is too long for a transcript")
        self._buffer += data
        if not self.streams:
            return True
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        before = len(self._deltas)
        for line in lines:
            self._take(line.strip())
        return len(self._deltas) > before or self._complete

    def finish(self) -> Recognition:
        """Return the whole answer.

        Raises:
            BadAnswer: it is not a transcript, or it is cut off.
        """
        if not self.streams:
            return self._read_json()
        self._take(bytes(self._buffer).strip())
        if not self._complete:
            raise BadAnswer("the stream ended in the middle of the transcript")
        return Recognition("".join(self._deltas).strip() if self._text is None else self._text.strip())

    def _take(self, line: bytes) -> None:
        """Take one line of a stream. Only lines with data count: comments keep the connection open."""
        if not line.startswith(b"data:"):
            return
        data = line.removeprefix(b"data:").strip().decode(errors="replace")
        if data == _DONE:
            self._complete = True
            return
        event = _object(data)
        if event.get("error"):
            raise BadAnswer(_message(event["error"]))
        kind = event.get("type")
        if kind == "transcript.text.done":
            self._text, self._complete = _text(event), True
        elif kind == "transcript.text.delta":
            self._deltas.append(str(event.get("delta") or ""))
        elif choices := event.get("choices"):
            self._take_choice(choices[0] if isinstance(choices, list) else None)

    def _take_choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            raise BadAnswer("an event has no transcript")
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._deltas.append(str(delta.get("content") or ""))
        self._complete = self._complete or bool(choice.get("finish_reason"))

    def _read_json(self) -> Recognition:
        if not self._buffer:
            raise BadAnswer("the answer is empty")
        answer = _object(self._buffer.decode(errors="replace"))
        if answer.get("error"):
            raise BadAnswer(_message(answer["error"]))
        text, segments = _text(answer), answer.get("segments")
        if isinstance(segments, list) and segments and all(isinstance(segment, dict) for segment in segments):
            kept = [str(segment.get("text") or "").strip() for segment in segments if not _is_silent(segment)]
            text = " ".join(filter(None, kept)) if len(kept) < len(segments) else text
        return Recognition(text.strip())


def _object(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise BadAnswer(f"the answer is not JSON: {text[:40]!r}") from error
    if not isinstance(parsed, dict):
        raise BadAnswer("the answer is not a JSON object")
    return parsed


def _text(answer: Mapping[str, Any]) -> str:
    text = answer.get("text")
    if not isinstance(text, str):
        raise BadAnswer("the answer has no text")
    return text


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, dict) else error
    return f"the server reports: {said}"[:300]


def _is_silent(segment: Mapping[str, Any]) -> bool:
    """Whether the model itself reports that the segment has no speech, and is unsure of its text."""
    numbers = segment.get("no_speech_prob"), segment.get("avg_logprob")
    return all(isinstance(number, int | float) for number in numbers) and is_no_speech(*numbers)
