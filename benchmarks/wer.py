"""Word error rate of real recordings: `python -m benchmarks.wer --clips DIR`.

Each clip is spoken in real time to a whole system with the classic engines, and beside it given bare to the
same recogniser: the difference is what turn-taking costs. DIR holds sound files and `transcripts.tsv`.
"""

import argparse
import asyncio
import csv
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.machine import RESULTS, circumstances, result_path
from benchmarks.report import open_console
from deploy.broker import BrokerError
from deploy.conversation import Recording, TalkFailed, converse
from deploy.supervisor import StartFailed
from deploy.talk import read_speech
from services.asr.sphinx import SphinxRecognizer
from shared.settings import Settings
from tests.support.system import running_system

CLASSIC = {
    "PARLEY_VAD_ENGINE": "webrtc",
    "PARLEY_ASR_ENGINE": "sphinx",
    "PARLEY_LLM_ENGINE": "eliza",
    "PARLEY_TTS_ENGINE": "espeak",
}
AT_ONCE = 2
"""Clips spoken at the same time: more would make the decoders late on a small machine."""
CHUNK_BYTES = 3200
WHOLE_CLIP_MS = 1500
"""Endpoint of the sessions: a clip is one turn. Speeches hold pauses of a second, at which a conversation's 500 ms would
cut, and the recogniser understands pieces worse than the whole, with or without a pipeline around it."""
ALLOWED_POINTS = 5.0
"""How much worse than the bare recogniser the whole path may be, in percentage points."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, and what is said in it."""

    file: Path
    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What was understood of a clip, and how wrong that is: word errors per word of the truth."""

    clip: Clip
    path: str
    path_wer: float
    bare: str
    bare_wer: float


def read_clips(folder: Path) -> list[Clip]:
    """The clips that `transcripts.tsv` names."""
    with (folder / "transcripts.tsv").open(newline="", encoding="utf-8") as lines:
        return [Clip(folder / row["file"], row["text"]) for row in csv.DictReader(lines, delimiter="\t")]


def normalise(text: str) -> str:
    """Words alone: lower case, no punctuation but the apostrophe within a word."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower()))


def word_error_rate(truth: Sequence[str], heard: Sequence[str]) -> float:
    """Word errors per word of the truth, over all texts together."""
    return float(jiwer.wer([normalise(text) for text in truth], [normalise(text) for text in heard]))


async def hear_path(clips: Sequence[Clip], url: str) -> list[str]:
    """What a running system understands of each clip; the turns that it makes of one are joined."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def hear(clip: Clip) -> str:
        async with gate:
            conversation = await converse(Recording(read_speech(clip.file)), url)
        return " ".join(turn.said for _, turn in sorted(conversation.turns.items()) if turn.said)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hear(clip)) for clip in clips]
    return [task.result() for task in tasks]


async def hear_bare(clips: Sequence[Clip]) -> list[str]:
    """What the recogniser alone understands of each clip."""
    recognizer = SphinxRecognizer(Settings())
    await recognizer.load()
    texts = []
    try:
        for clip in clips:
            utterance = await recognizer.open("en")
            try:
                pcm = read_speech(clip.file)
                for start in range(0, len(pcm), CHUNK_BYTES):
                    await utterance.accept(pcm[start : start + CHUNK_BYTES])
                texts.append((await utterance.finish()).text)
            finally:
                utterance.close()
    finally:
        await recognizer.close()
    return texts


async def measure(clips: Sequence[Clip], endpoint_ms: int) -> list[Heard]:
    """Both ways for all clips, on a system of its own."""
    bare = await hear_bare(clips)
    async with running_system(CLASSIC | {"PARLEY_ENDPOINT_MS": str(endpoint_ms)}) as system:
        path = await hear_path(clips, system.url)
    return [
        Heard(clip, heard, word_error_rate([clip.text], [heard]), alone, word_error_rate([clip.text], [alone]))
        for clip, heard, alone in zip(clips, path, bare, strict=True)
    ]


def figures(heard: Sequence[Heard]) -> dict[str, Any]:
    """All of it as it is written down; rates in percent."""
    truth = [one.clip.text for one in heard]
    return {
        "path_wer_percent": 100 * word_error_rate(truth, [one.path for one in heard]),
        "bare_wer_percent": 100 * word_error_rate(truth, [one.bare for one in heard]),
        "clips": [
            {
                "file": one.clip.file.name,
                "text": one.clip.text,
                "path": one.path,
                "path_wer_percent": 100 * one.path_wer,
                "bare": one.bare,
                "bare_wer_percent": 100 * one.bare_wer,
            }
            for one in heard
        ],
    }


def print_table(result: dict[str, Any], console: Console) -> None:
    """Rates first, then what was understood."""
    table = Table(
        "clip", "words", "whole path, %", "bare, %", "understood", box=None, header_style="dim", padding=(0, 2, 0, 0)
    )
    for clip in result["clips"]:
        rates = (f"{clip['path_wer_percent']:.1f}", f"{clip['bare_wer_percent']:.1f}")
        table.add_row(clip["file"], str(len(clip["text"].split())), *rates, clip["path"])
    words = sum(len(clip["text"].split()) for clip in result["clips"])
    table.add_row(
        "all", str(words), f"{result['path_wer_percent']:.1f}", f"{result['bare_wer_percent']:.1f}", style="bold"
    )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wer", description=__doc__)
    parser.add_argument("--clips", type=Path, required=True, help="folder with sound files and transcripts.tsv")
    parser.add_argument(
        "--endpoint-ms",
        type=int,
        default=WHOLE_CLIP_MS,
        help="silence that ends a turn (%(default)s)",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    try:
        heard = asyncio.run(measure(read_clips(options.clips), options.endpoint_ms))
    except (OSError, TalkFailed, StartFailed, BrokerError, ExceptionGroup) as error:
        reasons = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        print(*reasons, sep="\n", file=sys.stderr)
        return 1
    result = circumstances() | {"endpoint_ms": options.endpoint_ms} | figures(heard)
    path = result_path(options.out, "wer", result)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    print_table(result, open_console(sys.stdout))
    excess = result["path_wer_percent"] - result["bare_wer_percent"]
    print(f"turn-taking costs {excess:+.1f} points, {ALLOWED_POINTS:g} are allowed\n{path}")
    return 0 if excess <= ALLOWED_POINTS else 1


if __name__ == "__main__":
    sys.exit(main())
