"""Which ear is better: `python -m benchmarks.detectors --clips DIR`.

Human speech, clean and in noise at 20, 10 and 5 dB, through each detector window by window, and through turn-taking. What
is speech is known from the clean recording: a window counts as speech if its level is within 30 dB of the recording's
loudest and above -50 dBFS, or if it lies in a gap of up to 100 ms between two such. How many turns there are is known from
turn-taking over that: a detector that makes more of them has cut turns in pieces.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import soundfile
from matplotlib import pyplot as plt
from rich.progress import track
from rich.table import Table

from benchmarks.machine import RESULTS, circumstances, result_path
from benchmarks.report import open_console
from services.vad.engine import ENGINES, WINDOW_MS, WINDOW_SAMPLES, SpeechDetector
from services.vad.turn_taking import TurnTaker
from shared.engines.registry import create_engine
from shared.protocol.frames import SpeechStarted, TurnCommitted
from shared.protocol.session import RATE_HZ, SessionSettings
from shared.settings import Settings

Floats = npt.NDArray[np.float64]

DETECTORS = ("webrtc", "silero")
NOISES = ("white", "pink", "babble")
SNRS_DB = (20, 10, 5)
LEAD_S, TAIL_S = 1.5, 1.5
THRESHOLD = 0.5
RANGE_DB, LEAST_DB, GAP_WINDOWS = 30.0, -50.0, 5
ALONE_S = 60.0
"""Of noise without anybody speaking."""
LEVEL_DB = -26.0
"""Of the speech, so that the noise of all clips is the same."""


def level(samples: Floats) -> float:
    """RMS."""
    return float(np.sqrt(np.mean(samples**2)) + 1e-9)


def windows_db(samples: Floats) -> Floats:
    """Level of each window, dBFS."""
    count = len(samples) // WINDOW_SAMPLES
    frames = samples[: count * WINDOW_SAMPLES].reshape(count, WINDOW_SAMPLES)
    decibels: Floats = 20 * np.log10(np.sqrt(np.mean(frames**2, axis=1)) + 1e-9)
    return decibels


def truth(samples: Floats) -> npt.NDArray[np.bool_]:
    """Which windows of a clean recording are speech."""
    decibels = windows_db(samples)
    spoken: npt.NDArray[np.bool_] = (decibels > decibels.max() - RANGE_DB) & (decibels > LEAST_DB)
    at = np.flatnonzero(spoken)
    for before, after in pairwise(at):
        if after - before <= GAP_WINDOWS:
            spoken[before:after] = True
    return spoken


def load(folder: Path) -> list[Floats]:
    """All clips at one level, with silence around them."""
    clips = []
    for path in sorted(folder.glob("*.wav")):
        samples, rate_hz = soundfile.read(path)
        if rate_hz != RATE_HZ:
            raise SystemExit(f"{path}: {rate_hz} Hz; {RATE_HZ} is needed")
        samples = samples * 10 ** (LEVEL_DB / 20) / level(samples)
        clips.append(np.concatenate([np.zeros(int(LEAD_S * RATE_HZ)), samples, np.zeros(int(TAIL_S * RATE_HZ))]))
    if not clips:
        raise SystemExit(f"{folder} holds no .wav")
    return clips


def noise(kind: str, samples: int, clips: Sequence[Floats], chance: np.random.Generator) -> Floats:
    """So much noise, at level 1."""
    if kind == "babble":  # five people at once, backwards: nobody says a word
        found = np.zeros(samples)
        for _ in range(5):
            speech = np.concatenate([clips[index][::-1] for index in chance.permutation(len(clips))])
            found += np.roll(np.tile(speech, samples // len(speech) + 1)[:samples], chance.integers(samples))
    else:
        spectrum = np.fft.rfft(chance.standard_normal(samples))
        if kind == "pink":
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        found = np.fft.irfft(spectrum, samples)
    return found / level(found)


def pcm(samples: Floats) -> bytes:
    """Whole windows, s16le."""
    count = len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES
    return (samples[:count] * 32_768).clip(-32_768, 32_767).astype("<i2").tobytes()


@dataclass(slots=True)
class Turn:
    """What turn-taking made of the windows of a sound, counted in these."""

    start: int
    """Pre-roll included."""
    known: int
    """Windows heard when it was known to have begun."""
    end: int | None = None
    """None: not over when the sound was."""


def turns_of(probabilities: Sequence[float]) -> list[Turn]:
    taker, found = TurnTaker("s", SessionSettings()), []
    for number, probability in enumerate(probabilities):
        for fact in taker.hear(probability, f"{1000 + number}-0"):
            if isinstance(fact, SpeechStarted):
                found.append(Turn(fact.start // WINDOW_SAMPLES, number + 1))
            elif isinstance(fact, TurnCommitted):
                found[-1].end = fact.end // WINDOW_SAMPLES
    return found


def judge(detector: SpeechDetector[Any], sounds: Sequence[bytes]) -> list[list[float]]:
    """Each sound by an ear of its own, in pieces as they come."""
    ears, found = [detector.open() for _ in sounds], [[] for _ in sounds]  # type: ignore[var-annotated]
    step = 5 * 2 * WINDOW_SAMPLES
    for at in range(0, max(map(len, sounds)), step):
        batch = [(index, sound[at : at + step]) for index, sound in enumerate(sounds) if at < len(sound)]
        answers = detector.judge([(ears[index], piece) for index, piece in batch])
        for (index, _), probabilities in zip(batch, answers, strict=True):
            found[index] += probabilities
    return found


def measure(detector: SpeechDetector[Any], clips: Sequence[Floats], kind: str, snr_db: int | None) -> dict[str, Any]:
    """One detector in one noise."""
    chance = np.random.default_rng(1)
    noises = [np.zeros(len(clip)) for clip in clips]
    alone = np.zeros(int(ALONE_S * RATE_HZ))
    if snr_db is not None:
        loudness = 10 ** ((LEVEL_DB - snr_db) / 20)
        others = [[other for other in clips if other is not clip] or clips for clip in clips]
        noises = [noise(kind, len(clip), other, chance) * loudness for clip, other in zip(clips, others, strict=True)]
        alone = noise(kind, len(alone), clips, chance) * loudness
    heard = judge(detector, [pcm(clip + other) for clip, other in zip(clips, noises, strict=True)])
    missed = false = spoken = silent = outside = expected = made = unheard = unended = 0
    starts, ends, begins = [], [], []
    for clip, probabilities in zip(clips, heard, strict=True):
        speech, said = truth(clip), np.array(probabilities) >= THRESHOLD
        spoken, silent = spoken + int(speech.sum()), silent + int((~speech).sum())
        missed, false = missed + int((speech & ~said).sum()), false + int((~speech & said).sum())
        first, last = np.flatnonzero(speech)[[0, -1]]
        after = np.flatnonzero(said[max(0, first - 10) :])
        starts.append((int(after[0]) + max(0, first - 10) - first) * WINDOW_MS if len(after) else np.nan)
        before = np.flatnonzero(said[: last + 50])
        ends.append((int(before[-1]) - last) * WINDOW_MS if len(before) else np.nan)
        turns, covered = turns_of(probabilities), np.zeros(len(speech), np.bool_)
        for turn in turns:
            covered[turn.start : turn.end] = True
        outside, made = outside + int((speech & ~covered).sum()), made + len(turns)
        expected += len(turns_of([float(one) for one in speech]))
        unheard += not (speech & covered).any()
        unended += bool(turns) and turns[-1].end is None
        begins += [(turn.known - first) * WINDOW_MS for turn in turns[:1]]
    (quiet,) = judge(detector, [pcm(alone)])
    return {
        "noise": kind if snr_db is not None else "none",
        "snr_db": snr_db,
        "miss_percent": 100 * missed / spoken,
        "false_percent": 100 * false / silent,
        "start_ms": [float(value) for value in np.nanpercentile(starts, (50, 95))],
        "end_ms": [float(value) for value in np.nanpercentile(ends, (50, 95))],
        "turns": made,
        "turns_expected": expected,
        "speech_in_no_turn_percent": 100 * outside / spoken,
        "clips_without_turn": unheard,
        "clips_without_end": unended,
        "turn_known_ms": [float(value) for value in np.percentile(begins, (50, 95))] if begins else [np.nan] * 2,
        "false_turns_a_minute": len(turns_of(quiet)) * 60 / ALONE_S,
    }


def cost_us(detector: SpeechDetector[Any], sessions: int, sound: bytes) -> float:
    """CPU time of a window of one session, with so many sessions in a call and one window of each."""
    ears = [detector.open() for _ in range(sessions)]
    size, calls = 2 * WINDOW_SAMPLES, max(160, 800 // sessions)
    began_s = time.process_time()
    for call in range(calls):
        at = call * size % (len(sound) - size)
        detector.judge([(ear, sound[at : at + size]) for ear in ears])
    return 1e6 * (time.process_time() - began_s) / calls / sessions


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Misses and false alarms over the noise."""
    figure, axes = plt.subplots(1, 4, figsize=(16, 4), layout="constrained")
    shown = (("miss_percent", "speech missed, % of windows"), ("false_percent", "false alarms, % of windows"),
             ("speech_in_no_turn_percent", "speech in no turn, %"),
             ("false_turns_a_minute", "false turns in noise alone, a minute"))  # fmt: skip
    for axis, (name, title) in zip(axes, shown, strict=True):
        for detector, color in zip(DETECTORS, ("tab:blue", "tab:orange"), strict=True):
            for kind, style in zip(NOISES, ("o-", "s--", "^:"), strict=True):
                mine = [row for row in rows if (row["detector"], row["noise"]) == (detector, kind)]
                axis.plot([row["snr_db"] for row in mine], [row[name] for row in mine], style, color=color,
                          label=f"{detector}, {kind}")  # fmt: skip
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("speech above noise, dB")
        axis.invert_xaxis()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detectors", description=__doc__)
    parser.add_argument("--clips", type=Path, required=True, help="folder with 16 kHz recordings of single speakers")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    console = open_console(sys.stdout)
    clips = load(options.clips)
    conditions = [("none", None), *((kind, snr_db) for kind in NOISES for snr_db in SNRS_DB)]
    rows, costs = [], {}
    for name in DETECTORS:
        detector = create_engine("vad", name, ENGINES, Settings())
        asyncio.run(detector.load())
        for kind, snr_db in track(conditions, description=name):
            rows.append({"detector": name, **measure(detector, clips, kind, snr_db)})
        costs[name] = {sessions: cost_us(detector, sessions, pcm(clips[0])) for sessions in (1, 10, 50, 100)}
    title = f"{len(clips)} clips, {rows[0]['turns_expected']} turns, windows of {WINDOW_MS} ms, threshold {THRESHOLD}"
    table = Table(title=title, box=None)
    for heading in ("detector", "noise", "dB", "missed %", "false %", "start ms p50", "p95", "end ms p50", "p95",
                    "turns", "known ms p50", "p95", "in none %", "no turn", "no end",
                    "false/min"):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            *(row["detector"], row["noise"], str(row["snr_db"] or "–")),
            *(f"{row['miss_percent']:.1f}", f"{row['false_percent']:.1f}"),
            *(f"{value:.0f}" for value in (*row["start_ms"], *row["end_ms"])),
            *(str(row["turns"]), *(f"{value:.0f}" for value in row["turn_known_ms"])),
            *(f"{row['speech_in_no_turn_percent']:.1f}", str(row["clips_without_turn"])),
            *(str(row["clips_without_end"]), f"{row['false_turns_a_minute']:.1f}"),
        )
    console.print(table)
    for name, by_sessions in costs.items():
        shown = ", ".join(f"{sessions} sessions {spent:.1f}" for sessions, spent in by_sessions.items())
        console.print(f"{name}: µs of CPU per window with {shown}")
    result = circumstances() | {"rows": rows, "cpu_us": costs}
    path = result_path(options.out, "detectors", result)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    draw(rows, path.with_suffix(".png"))
    console.print(f"{path}\n{path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
