"""Plays the input of a recorded session to a running Parley, in real time, as its client did."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from deploy.client.conversation import FRAME_BYTES, FRAME_MS, Conversation, converse
from deploy.replay.turns import COMMITTED, Turn
from deploy.replay.virtual import settings_of
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    InputCleared,
    InputCommitted,
    ReplyRequested,
    SettingsChanged,
    TextTyped,
)
from shared.protocol.session import SESSION_TABLE, SessionSettings
from shared.recordings import Recording


async def replay_in_real_time(recording: Recording, url: str) -> list[Turn]:
    """Return the turns of a new session with the same input.

    Raises:
        BadRecording: the recording has no beginning.
        TalkFailed: the Parley at `url` does not answer, refuses, or ends the conversation.
    """
    client = _Client(recording)
    config = {**_config(settings_of(recording)), "may_record": False}
    conversation = await converse(client, url, client.on_message, client.report, config=config)
    return [
        Turn(
            at_s - one.marks.get("endpoint", 0.0) / 1000 if one.spoken else at_s,
            one.spoken,
            COMMITTED,
            one.said if one.spoken else "",
            one.marks,
        )
        for one in conversation.turns.values()
        if (at_s := client.committed_s.get(one.turn)) is not None
    ]


class _Client:
    """Speaks the recorded audio, and sends the recorded messages at their times."""

    def __init__(self, recording: Recording) -> None:
        self.committed_s: dict[int, float] = {}
        """When each turn was over, in seconds of the call."""
        self._audio = deque(_audio(recording))
        self._messages = deque(sorted(_messages(recording), key=lambda one: one[0]))
        self._now_s = self._last_s = 0.0

    def frame(self) -> bytes:
        """Return the audio that the client had sent by now; it may have paused. Silence follows its end."""
        self._now_s += FRAME_MS / 1000
        if not self._audio:
            return bytes(FRAME_BYTES)
        due = []
        while self._audio and self._audio[0][0] <= self._now_s:
            due.append(self._audio.popleft()[1])
            self._last_s = self._now_s
        return b"".join(due)

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        return None if self._audio or self._messages else self._last_s

    def report(self, conversation: Conversation, now_s: float) -> dict[str, Any] | None:
        if not self._messages or self._messages[0][0] > now_s:
            return None
        self._last_s = now_s
        return self._messages.popleft()[1]

    def on_message(self, message: dict[str, Any], conversation: Conversation) -> None:
        if message["type"] == "processing_started":
            self.committed_s.setdefault(message["turn"], self._now_s)


def began_ms(recording: Recording) -> int:
    """Return when the client sent its first input, by the broker's clock."""
    return min((milliseconds(entry.id) for entry in recording.input), default=0)


def _audio(recording: Recording) -> Iterator[tuple[float, bytes]]:
    """Return what the client spoke: time in seconds since its first input, and samples, where some are missing with silence."""
    position, zero_ms = 0, began_ms(recording)
    for entry in recording.input:
        for frame in entry.frames:
            if isinstance(frame, AudioChunk):
                silence = bytes(2 * max(0, frame.offset - position))
                position = frame.offset + len(frame.pcm) // 2
                yield (milliseconds(entry.id) - zero_ms) / 1000, silence + frame.pcm


def _messages(recording: Recording) -> Iterator[tuple[float, dict[str, Any]]]:
    """Return what the client sent besides audio: time in seconds since its first input, and message of `/ws`."""
    settings, zero_ms = settings_of(recording), began_ms(recording)
    for entry in recording.input:
        for frame in entry.frames:
            if (message := _message(frame, settings)) is not None:
                yield (milliseconds(entry.id) - zero_ms) / 1000, message
            if isinstance(frame, SettingsChanged):
                settings = frame.settings


def _message(frame: Frame, settings: SessionSettings) -> dict[str, Any] | None:
    match frame:
        case TextTyped(text):
            return {"type": "text_input", "text": text}
        case ReplyRequested(options) if options.say:
            return {"type": "say", "text": options.say}
        case InputCommitted():
            return {"type": "commit"}
        case InputCleared():
            return {"type": "clear"}
        case SettingsChanged(changed):
            return {"type": "configure", "config": _config(changed, settings)}
        case _:
            return None


def _config(settings: SessionSettings, other: SessionSettings | None = None) -> dict[str, Any]:
    """Return the settings that a client sends: those that differ from `others`, or from the defaults."""
    before = other or SessionSettings()
    values = {name: (getattr(settings, name), getattr(before, name)) for name in SESSION_TABLE}
    return {name: now for name, (now, was) in values.items() if now != was}
