"""How well turns are taken: `python -m benchmarks.turn_taking`.

Scripted conversations (benchmarks/scenes) with each detector and each engine for the end of turns: in virtual time through
turn-taking alone, or with `--real` through the whole path in real time, as a caller who plays what comes. In virtual time
nobody understands words: there, speech of 400 ms into a reply counts as one.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.machine import HERE, RESULTS, circumstances, result_path
from benchmarks.report import open_console
from benchmarks.turn_score import Score, Seen, score
from deploy.performance import RATE_HZ, Performer, Samples, gather_sounds
from deploy.scene import BadScene, Cue, Scene, load_scenes
from services.llm.sentences import SentenceCutter
from services.llm.spoken import speakable
from services.vad.endpointing import ENGINES as ENDPOINTING
from services.vad.engine import ENGINES as DETECTORS
from services.vad.stage import WENT_ON_MS
from services.vad.turn_taking import TurnTaker
from shared.engines import create_engine
from shared.frames import SpeechPaused, SpeechResumed, SpeechStarted, TurnCommitted
from shared.session import SessionSettings
from shared.settings import Settings
from tests.support.system import SCRIPTED, running_system

REPLY_DELAY_S, REPLY_S, WORD_S = 0.3, 5.0, 0.4
"""In virtual time: from commit to reply, its length, and speech that counts as a word."""
TEXT = (
    "This is the first sentence of a reply that goes on for a while. Here is the second one, which is no shorter. "
    "The third one follows at once. Then comes the last one of them all."
)
PIECE_S = 1.6
PLAYED_S = 0.5
LONGEST_S = 120.0
AT_ONCE = 2
"""Callers in real time: the recogniser is to keep up."""

Sounds = Mapping[Cue, Samples]


async def virtual(scene: Scene, sounds: Sounds, detector: str, endpointing: str) -> Score:
    """One scene through the detector and turn-taking."""
    settings, session = Settings(), SessionSettings()
    ears, ends = (
        create_engine("vad", detector, DETECTORS, settings),
        create_engine("endpoint", endpointing, ENDPOINTING, settings),
    )
    await ears.load()
    await ends.load()
    ear, speaker, taker = ears.open(), ends.open(), TurnTaker("s", session)
    performer = Performer(scene, sounds)
    seen: list[Seen] = []
    heard = bytearray()
    reply_at_s = reply_over_s = held_at_s = paused_at_s = float("inf")
    into_reply = False
    while not performer.over:
        frame = performer.frame()
        heard += frame
        now_s = performer.now_s
        for fact in taker.hear(ears.judge([(ear, frame)])[0][0], f"{int(1000 * now_s) + 1}-0"):
            match fact:
                case SpeechStarted() | SpeechResumed():
                    into_reply = reply_at_s <= now_s < reply_over_s
                    if into_reply:
                        held_at_s = now_s
                        seen.append(Seen(now_s, "pause"))
                    pause_ms = (fact.onset / RATE_HZ - paused_at_s) * 1000
                    if isinstance(fact, SpeechResumed) or 0 <= pause_ms <= WENT_ON_MS:
                        speaker.resumed(round(pause_ms))
                case SpeechPaused():
                    paused_at_s = fact.end / RATE_HZ
                    pcm = bytes(heard[-2 * int(ends.audio_s * RATE_HZ) :]) if ends.audio_s else b""
                    taker.wait(fact.turn, fact.revision, await speaker.wait_ms(pcm, session))
                    if held_at_s < float("inf"):  # it was nothing
                        reply_over_s += now_s - held_at_s
                        held_at_s = float("inf")
                        seen.append(Seen(now_s, "resume"))
                case TurnCommitted():
                    speaker.committed(round(1000 * (fact.decided - fact.end) / RATE_HZ))
                    if not into_reply:
                        seen.append(Seen(now_s, "commit"))
                        reply_at_s = now_s + REPLY_DELAY_S
                        reply_over_s = reply_at_s + REPLY_S
                    into_reply = False
                case _:
                    pass
        if now_s >= held_at_s + WORD_S and not taker.paused:
            seen.append(Seen(now_s, "interrupt"))
            reply_at_s = reply_over_s = held_at_s = float("inf")
            into_reply = False
            performer.reply_over()
        if reply_at_s <= now_s < reply_over_s and held_at_s == float("inf"):
            performer.reply_began()
        elif now_s >= reply_over_s and held_at_s == float("inf"):
            performer.reply_over()
    await ears.close()
    await ends.close()
    return score(performer.done, seen)


class Caller:
    """Plays a scene to the real system, and what comes back as a loudspeaker would."""

    def __init__(self, socket: ClientConnection, performer: Performer) -> None:
        self._socket, self._performer = socket, performer
        self.seen: list[Seen] = []
        self.off_words: list[int] = []
        self._turn = 0
        self._done = True
        self._received_s = self._played_s = 0.0  # of the current reply
        self._began_s: float | None = None
        self._paused = False
        self._reported_s = 0.0

    @property
    def now_s(self) -> float:
        return self._performer.now_s

    async def perform(self) -> None:
        """The whole scene, in real time."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(LONGEST_S):
            listening = tasks.create_task(self._listen())
            while not self._performer.over:
                frame = self._performer.frame()
                await asyncio.sleep(start_s + self.now_s - loop.time())
                await self._socket.send(frame)
                await self._play(len(frame) / 2 / RATE_HZ)
            listening.cancel()

    async def _listen(self) -> None:
        async for message in self._socket:
            if isinstance(message, bytes):
                self._received_s += len(message) / 2 / RATE_HZ
            else:
                await self._read(json.loads(message))

    async def _play(self, seconds: float) -> None:
        """The loudspeaker goes on by so much."""
        if self._paused:
            return
        playing = min(seconds, self._received_s - self._played_s)
        if playing > 0:
            if self._began_s is None:
                self._began_s = self.now_s
                self._performer.reply_began()
            self._played_s += playing
        elif self._done and self._began_s is not None:
            self._began_s = None
            self._performer.reply_over()
            await self._report()
        if self._played_s - self._reported_s >= PLAYED_S:
            await self._report()

    async def _report(self) -> None:
        self._reported_s = self._played_s
        await self._socket.send(json.dumps({"type": "played", "turn": self._turn, "ms": round(1000 * self._played_s)}))

    async def _read(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "processing_started":
                self.seen.append(Seen(self.now_s, "commit"))
            case "reply_started":
                self._turn, self._done, self._began_s = message["turn"], False, None
                self._received_s = self._played_s = self._reported_s = 0.0
            case "reply_done":
                self._done = True
            case "pause":
                self.seen.append(Seen(self.now_s, "pause"))
                self._paused = True
                await self._report()
            case "resume":
                self.seen.append(Seen(self.now_s, "resume"))
                self._paused = False
            case "interrupt":
                self.seen.append(Seen(self.now_s, "interrupt"))
                if self._began_s is not None:
                    self.off_words.append(len(message["heard"].split()) - heard_words(self._played_s))
                self._received_s, self._paused = self._played_s, False
                await self._report()
            case _:
                pass


def heard_words(played_s: float) -> int:
    """Words of the scripted reply that were played: its voice spreads each piece's words evenly over the same time."""
    cutter = SentenceCutter("en", Settings().first_clause_words)
    pieces = [speakable(piece).split() for piece in (*cutter.feed(TEXT), *cutter.finish())]
    count = 0
    for index, words in enumerate(pieces):
        share = (played_s - index * PIECE_S) / PIECE_S * len(words)
        count += min(len(words), max(0, int(share + 0.5)))
    return count


async def real(scenes: list[Scene], sounds: Sounds, detector: str, endpointing: str, asr: str) -> dict[str, Score]:
    """All scenes through a whole system, two callers at a time."""
    env = {
        **SCRIPTED,
        "PARLEY_ASR_ENGINE": asr,
        "PARLEY_VAD_ENGINE": detector,
        "PARLEY_ENDPOINT_ENGINE": endpointing,
        "PARLEY_SCRIPTED_TEXT": TEXT,
        "PARLEY_SCRIPTED_TTS_SECONDS": str(PIECE_S),
    }
    gate = asyncio.Semaphore(AT_ONCE)

    async def call(url: str, scene: Scene) -> Score:
        async with gate, connect(url, compression=None, max_size=None) as socket:
            await socket.send(json.dumps({"type": "start_streaming"}))
            async with asyncio.timeout(10):
                await socket.recv()
            performer = Performer(scene, sounds)
            caller = Caller(socket, performer)
            await caller.perform()
            found = score(performer.done, caller.seen)
            found.history_off_words = caller.off_words
            return found

    async with running_system(env) as system, asyncio.TaskGroup() as tasks:
        calls = {scene.name: tasks.create_task(call(system.stream_url, scene)) for scene in scenes}
        await asyncio.wait(calls.values())
    return {name: task.result() for name, task in calls.items()}


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """One line for each scene and one for all, of each way to take turns."""
    table = Table(title="turn-taking", title_justify="left", box=None, header_style="dim", padding=(0, 1, 0, 0))
    headings = ("detector", "endpoint", "scene", "turns", "cut off", "missed", "false", "late", "commit ms p50", "max",
                "barge-ins", "missed", "silence ms", "noises", "ended it", "went on", "wrong resumes", "history ±words")  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        commits, silences = row["commit_ms"], row["silence_ms"]
        table.add_row(
            *(row["detector"], row["endpointing"], row["scene"]),
            *(str(row[name]) for name in ("turns", "cut_offs", "missed_turns", "false_turns", "late_commits")),
            *((f"{np.median(commits):.0f}", f"{max(commits):.0f}") if commits else ("–", "–")),
            *(str(row[name]) for name in ("interruptions", "missed_barge_ins")),
            f"{np.median(silences):.0f}" if silences else "–",
            *(str(row[name]) for name in ("noises", "false_barge_ins", "right_resumes", "wrong_resumes")),
            " ".join(f"{off:+d}" for off in row["history_off_words"]) or "–",
            style="bold" if row["scene"] == "all" else "",
        )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turn_taking", description=__doc__)
    parser.add_argument("--scenes", type=Path, default=HERE / "scenes", help="a .scene, or a folder of them")
    parser.add_argument("--clips", type=Path, help="folder of the recordings that scenes name")
    parser.add_argument("--real", action="store_true", help="through a whole system, in real time")
    parser.add_argument("--vad", default="webrtc,silero", help="detectors, with commas")
    parser.add_argument("--endpointing", default="fixed,pace", help="engines for the end of turns, with commas")
    parser.add_argument("--asr", default="sphinx", help="the recogniser of --real")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    console = open_console(sys.stdout)
    try:
        scenes = load_scenes(options.scenes)
        sounds = gather_sounds(scenes, options.clips)
    except BadScene as error:
        console.print(str(error), markup=False)
        return 1
    rows: list[dict[str, Any]] = []
    for detector in options.vad.split(","):
        for endpointing in options.endpointing.split(","):
            if options.real:
                scores = asyncio.run(real(scenes, sounds, detector, endpointing, options.asr))
            else:
                scores = {scene.name: asyncio.run(virtual(scene, sounds, detector, endpointing)) for scene in scenes}
            whole = Score()
            for one in scores.values():
                whole.add(one)
            kind = {"detector": detector, "endpointing": endpointing}
            rows += [{**kind, "scene": name, **one.figures()} for name, one in [*scores.items(), ("all", whole)]]
            console.print(f"{detector}, {endpointing}: {len(scenes)} scenes")
    show(rows, console)
    result = circumstances() | {"real": options.real, "asr": options.asr, "rows": rows}
    path = result_path(options.out, "turn-taking-real" if options.real else "turn-taking", result)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    console.print(str(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
