"""`parley talk`: plays a recording or a scene to a running Parley as if it were spoken now, shows and records what comes back."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from rich.console import Console
from rich.text import Text

from deploy.client.conversation import RATE_HZ, Conversation, Recording, TalkFailed, Track, Turn, Voice, converse
from deploy.client.performance import Performer, gather_sounds
from deploy.client.scene import BadScene, load_scenes
from deploy.monitor.drawing import marked_parts, waterfall

NOTES = {
    "pause": "(someone speaks: the reply pauses at {heard_ms} ms)",
    "resume": "(it was nothing: the reply goes on)",
    "interrupt": "(interrupted after: {heard})",
}


def read_speech(file: Path) -> bytes:
    """A sound file as s16le, mono, 16 kHz.

    Raises:
        TalkFailed: no such file, no sound file, or nothing in it.
    """
    if not file.is_file():
        raise TalkFailed(f"{file}: no such file")
    try:
        samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise TalkFailed(f"{file}: no sound file: {error.error_string}") from None
    if not len(samples):
        raise TalkFailed(f"{file}: there is no audio in it")
    mono = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    return bytes((np.clip(mono, -1, 1) * 32767).round().astype("<i2").tobytes())


class Actor:
    """Plays a scene, and listens for the replies that it speaks into."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer

    def frame(self) -> bytes:
        return self._performer.frame()

    def spoken_until(self, conversation: Conversation, now_s: float) -> float | None:
        if conversation.track.sounding(now_s):
            self._performer.reply_began()
        else:
            self._performer.reply_over()
        return self._performer.said_all_s


def voice_of(file: Path, clips: Path | None) -> Voice:
    """What is to be said: a scene's performance, or a recording.

    Raises:
        TalkFailed: the file cannot be played.
    """
    if file.suffix != ".scene":
        return Recording(read_speech(file))
    try:
        (scene,) = load_scenes(file)
        return Actor(Performer(scene, gather_sounds([scene], clips or file.parent)))
    except BadScene as error:
        raise TalkFailed(str(error)) from None


class Printer:
    """Shows a conversation while it goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: set[int] = set()

    def __call__(self, message: dict[str, Any], conversation: Conversation) -> None:
        kind, turn = message["type"], conversation.turns.get(message.get("turn", 0), Turn(0))
        if kind == "transcript" and message["final"]:
            self._line("you", turn.said or "(no words)")
        elif kind == "reply_done":
            self._line("parley", turn.reply, "" if turn.status == "completed" else f" ({turn.status})")
        elif kind == "timing" and "first_audio" in turn.marks and turn.turn not in self._drawn:
            self._drawn.add(turn.turn)
            self.waterfall(turn.marks)
        elif kind in ("pause", "resume", "interrupt"):
            self._line("", NOTES[kind].format(**message))
        elif kind == "error":
            self._line("error", conversation.errors[-1])

    def waterfall(self, marks: dict[str, float]) -> None:
        """A bar for each step, from the one before it to its mark; zero is the end of speech."""
        for line in waterfall(marked_parts(marks)):
            self._console.print(Text(f"        {line}", "dim"))

    def _line(self, who: str, text: str, note: str = "") -> None:
        self._console.print(Text.assemble((f"{who:<8}", "bold"), text, (note, "dim")))


def run_talk(file: Path, *, url: str, out: Path | None, clips: Path | None = None, as_json: bool = False) -> int:
    """The command. Returns its exit code: 1 if there was no conversation."""
    try:
        if out is not None and not out.parent.is_dir():
            raise TalkFailed(f"{out}: there is no folder {out.parent}")
        printer = Printer(Console(highlight=False))
        on_message = (lambda message, conversation: None) if as_json else printer
        conversation = asyncio.run(converse(voice_of(file, clips), url, on_message))
        if out is not None:
            _write(conversation.track, out)
    except TalkFailed as error:
        print(error, file=sys.stderr)
        return 1
    if as_json:
        turns = [asdict(turn) for turn in conversation.turns.values()]
        print(
            json.dumps(
                {"turns": turns, "errors": conversation.errors, "reply_audio": str(out) if out else None}, indent=2
            )
        )
        return 0
    if not conversation.turns:
        print("nothing in this file was taken for speech")
    if out is not None:
        print(f"{out}: {conversation.track.end_s:.1f} s of what the caller heard")
    return 0


def _write(track: Track, out: Path) -> None:
    try:
        soundfile.write(out, np.frombuffer(bytes(track.pcm), dtype="<i2"), RATE_HZ, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.LibsndfileError) as error:
        raise TalkFailed(f"{out} cannot be written: {error}") from None
