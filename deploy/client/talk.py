"""`parley talk`: plays a recording or a scene to a running Parley in real time, prints the conversation and records the replies."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.text import Text

from deploy.client.conversation import Conversation, Recording, Speech, TalkFailed, Track, Turn, converse
from deploy.client.performance import Performer, gather_sounds, read_sound
from deploy.client.scene import BadScene, load_scenes
from deploy.monitor.drawing import waterfall
from shared.protocol.session import RATE_HZ

INDENT = 8
"""Columns for who speaks."""
NOTES = {
    "pause": "(speech during the reply: paused at {heard_ms} ms)",
    "resume": "(false interruption: the reply continues)",
    "interrupt": "(interrupted after: {heard})",
}


def read_speech(file: Path) -> bytes:
    """Read a sound file as s16le, mono, 16 kHz.

    Raises:
        TalkFailed: there is no such file, it is not a sound file, or it is empty.
    """
    if not file.is_file():
        raise TalkFailed(f"{file}: no such file")
    try:
        samples = read_sound(file)
    except soundfile.LibsndfileError as error:
        raise TalkFailed(f"{file}: not a sound file: {error.error_string}") from None
    if not len(samples):
        raise TalkFailed(f"{file}: it contains no audio")
    return bytes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def open_speech(file: Path, clips: Path | None) -> Speech:
    """Open a scene or a recording. `clips`: folder of a scene's recordings; None: the folder of the scene.

    Raises:
        TalkFailed: the file cannot be played.
    """
    if file.suffix != ".scene":
        return Recording(read_speech(file))
    try:
        (scene,) = load_scenes(file)
        return Performer(scene, gather_sounds([scene], clips or file.parent))
    except BadScene as error:
        raise TalkFailed(str(error)) from None


class Printer:
    """Prints a conversation while it takes place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: set[int] = set()

    def __call__(self, message: dict[str, Any], conversation: Conversation) -> None:
        kind, turn = message["type"], conversation.turns.get(message.get("turn", 0), Turn(0))
        if kind == "transcript" and message["final"]:
            self._line("you", turn.said or "(no words)")
        elif kind == "reply_done":
            ended = ", ".join(filter(None, (turn.status.replace("completed", ""), turn.reason)))
            self._line("parley", turn.reply, f" ({ended})" if ended else "")
        elif kind == "timing" and "first_audio" in turn.marks and turn.turn not in self._drawn:
            self._drawn.add(turn.turn)
            self.waterfall(turn)
        elif kind in ("pause", "resume", "interrupt"):
            self._line("", NOTES[kind].format(**message))
        elif kind == "error":
            self._line("error", conversation.errors[-1])

    def waterfall(self, turn: Turn) -> None:
        """Print the segments of the turn."""
        since = "the end of speech" if turn.spoken else "the request"
        sent = f"first audio sent {turn.marks['first_audio']:.0f} ms after {since}"
        for line in (sent, *waterfall(turn.segments, self._console.width - INDENT)):
            self._console.print(Text(f"{'':{INDENT}}{line}", "dim"))

    def _line(self, who: str, text: str, note: str = "") -> None:
        self._console.print(Text.assemble((f"{who:<{INDENT}}", "bold"), text, (note, "dim")))


def run_talk(
    file: Path, *, url: str, out: Path | None, agent: str = "", clips: Path | None = None, as_json: bool = False
) -> int:
    """Hold the conversation and write the replies to `out`. Returns the exit code: 0, or 1 if the conversation failed."""
    try:
        if out is not None and not out.parent.is_dir():
            raise TalkFailed(f"cannot write {out}: the folder {out.parent} does not exist")
        printer = Printer(Console(highlight=False))
        on_message = (lambda message, conversation: None) if as_json else printer
        conversation = asyncio.run(converse(open_speech(file, clips), url, on_message, agent=agent))
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
        print("Parley detected no speech in this file.")
    if out is not None:
        print(f"{out}: {conversation.track.end_s:.1f} s, the replies as the caller heard them")
    return 0


def _write(track: Track, out: Path) -> None:
    try:
        soundfile.write(out, np.frombuffer(bytes(track.pcm), dtype="<i2"), RATE_HZ, subtype="PCM_16", format="WAV")
    except (OSError, soundfile.LibsndfileError) as error:
        raise TalkFailed(f"cannot write {out}: {error}") from None
