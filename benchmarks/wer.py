"""Word error rate of real recordings.

Each clip is spoken in real time to a whole system with small engines, and is also given directly to the same recogniser:
the difference is the cost of turn-taking. The folder of clips holds sound files and `transcripts.tsv`.
"""

import asyncio
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.compare import CompareWith, Comparison, Key, Kind, Rule, compare, print_regressions, read_baseline
from benchmarks.result import RESULTS, USAGE_WRONG, Out, Result, circumstances, result_path, write_result
from benchmarks.tables import open_console, print_rows
from deploy.client.conversation import Recording, TalkFailed, converse
from deploy.client.talk import read_speech
from services.asr.engine import ENGINES
from shared.engines.registry import UnknownEngine, create_engine, loaded
from shared.settings import BadSettings, load_settings
from tests.support.system import CLASSIC, BrokerError, StartFailed, running_system

DEFAULT_ASR = "sphinx"
AT_ONCE = 2
"""Clips spoken at the same time. With more, the decoders of a small machine fall behind."""
CHUNK_BYTES = 3200
WHOLE_CLIP_MS = 1500
"""Endpoint of the sessions, so that a clip is one turn. The speeches have pauses of a second: the usual 500 ms would cut
them, and the recogniser makes more errors on pieces than on the whole clip, also without a pipeline."""
ALLOWED_POINTS = 5.0
"""Allowed increase of the word error rate by the whole path over the recogniser alone, in percentage points."""
WORSE = Rule(1.0, 1.0)
"""One percentage point more than in the baseline is a regression."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its true transcript."""

    file: Path
    text: str


def read_clips(folder: Path) -> list[Clip]:
    with (folder / "transcripts.tsv").open(newline="", encoding="utf-8") as lines:
        return [Clip(folder / row["file"], row["text"]) for row in csv.DictReader(lines, delimiter="\t")]


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SPELLED = {"mr": "mister", "mrs": "missis", "dr": "doctor"} | {str(at): word for at, word in enumerate(_NUMBERS)}
"""How the transcripts spell what some recognisers abbreviate."""


def normalise(text: str) -> str:
    """Words alone: lower case, no punctuation but the apostrophe within a word, small numbers spelled out."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())
    return " ".join(SPELLED.get(word, word) for word in words)


def word_error_rate(truth: Sequence[str], transcripts: Sequence[str]) -> float:
    """Word errors per word of the truth, over all texts together."""
    import jiwer

    return float(jiwer.wer([normalise(text) for text in truth], [normalise(text) for text in transcripts]))


async def transcribe_path(clips: Sequence[Clip], url: str) -> list[str]:
    """Transcribe each clip through a running system. The turns of a clip are joined."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def transcribe(clip: Clip) -> str:
        async with gate:
            conversation = await converse(Recording(read_speech(clip.file)), url)
        return " ".join(turn.said for _, turn in sorted(conversation.turns.items()) if turn.said)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(transcribe(clip)) for clip in clips]
    return [task.result() for task in tasks]


async def transcribe_bare(clips: Sequence[Clip], engine: str) -> list[str]:
    texts = []
    async with loaded(create_engine("asr", engine, ENGINES, load_settings())) as recognizer:
        for clip in clips:
            utterance = await recognizer.open("en")
            try:
                pcm = read_speech(clip.file)
                for start in range(0, len(pcm), CHUNK_BYTES):
                    await utterance.accept(pcm[start : start + CHUNK_BYTES])
                texts.append((await utterance.finish()).text)
            finally:
                utterance.close()
    return texts


async def measure(clips: Sequence[Clip], engine: str, endpoint_ms: int) -> dict[str, Any]:
    """Transcribe all clips both ways. Returns the figures of the result; rates in percent."""
    bare = await transcribe_bare(clips, engine)
    chosen = {"PARLEY_ASR_ENGINE": engine, "PARLEY_ENDPOINT_MS": str(endpoint_ms)}
    async with running_system(CLASSIC | chosen) as system:
        path = await transcribe_path(clips, system.url)
    return {
        **_rates([clip.text for clip in clips], path, bare),
        "clips": [
            {"file": clip.file.name, "text": clip.text, "path": whole, "bare": alone}
            | _rates([clip.text], [whole], [alone])
            for clip, whole, alone in zip(clips, path, bare, strict=True)
        ],
    }


def _rates(truth: Sequence[str], path: Sequence[str], bare: Sequence[str]) -> dict[str, float]:
    return {
        "path_wer_percent": 100 * word_error_rate(truth, path),
        "bare_wer_percent": 100 * word_error_rate(truth, bare),
    }


def samples_of(result: Result) -> dict[Key, dict[int, float]]:
    return {
        ("all clips", title): {0: float(result[name])}
        for name, title in (("path_wer_percent", "whole path, %"), ("bare_wer_percent", "bare recogniser, %"))
    }


def _same(result: Result) -> Mapping[str, object]:
    return {"endpoint, ms": result["endpoint_ms"], "recogniser": result.get("asr", DEFAULT_ASR)}


KIND = Kind("parley bench wer", samples_of, _same)


def compare_results(before: Result, now: Result) -> Comparison:
    return compare(samples_of(before), samples_of(now), lambda key: WORSE)


def print_table(result: Result, console: Console) -> None:
    whole = {**result, "file": "all", "path": "", "text": " ".join(clip["text"] for clip in result["clips"])}
    rows = [
        {
            "clip": row["file"],
            "words": str(len(row["text"].split())),
            "whole path, %": f"{row['path_wer_percent']:.1f}",
            "bare, %": f"{row['bare_wer_percent']:.1f}",
            "transcript": row["path"],
        }
        for row in (*result["clips"], whole)
    ]
    print_rows("word error rate", rows, console)


def wer(
    clips: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder with sound files and transcripts.tsv.")
    ],
    asr: Annotated[str, typer.Option(help="The recogniser; PARLEY_ASR_MODEL and the like apply.")] = DEFAULT_ASR,
    endpoint_ms: Annotated[int, typer.Option(help="Silence that ends a turn.")] = WHOLE_CLIP_MS,
    out: Out = RESULTS,
    compare_with: CompareWith = None,
) -> None:
    """Measure the word error rate of recordings: through the whole system, and with the recogniser alone.

    Exit code: 0 measured, 1 a figure regressed, turn-taking costs more than 5 points or there is no result, 2 the options
    are wrong.
    """
    where = circumstances() | {"asr": asr, "endpoint_ms": endpoint_ms}
    path = result_path(out, "wer", where)
    try:
        baseline = read_baseline(compare_with, KIND, where, path)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(USAGE_WRONG) from None
    try:
        result: dict[str, Any] = where | asyncio.run(measure(read_clips(clips), asr, endpoint_ms))
    except (OSError, UnknownEngine, BadSettings, TalkFailed, StartFailed, BrokerError, ExceptionGroup) as error:
        reasons = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        print(*reasons, sep="\n", file=sys.stderr)
        raise typer.Exit(1) from None
    write_result(result, path)
    console = open_console(sys.stdout)
    print_table(result, console)
    excess = result["path_wer_percent"] - result["bare_wer_percent"]
    print(f"turn-taking costs {excess:+.1f} points, {ALLOWED_POINTS:g} are allowed\n{path}")
    regressed = print_regressions(compare_results, baseline, result, console)
    raise typer.Exit(1 if regressed or excess > ALLOWED_POINTS else 0)
