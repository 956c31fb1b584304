"""The callers' arithmetic, and one caller from its first frame to its counts."""

import asyncio
from collections import Counter
from itertools import pairwise
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import summary
from benchmarks.pipeline.callers import BARGE_AFTER_NS, CYCLE_FRAMES, FRAME_NS, Caller, Fleet, Tally
from benchmarks.pipeline.clip import ONSET_LEVEL, SPEECH_FRAMES, frames_of, quiet_frames, speech_frames, trim
from benchmarks.pipeline.ramp import FRAME_SAMPLES, RampChecker, spread
from benchmarks.pipeline.ticker import Ticker
from tests.support.waiting import HANG_S

SENTENCE = 16_000
MS = 1_000_000


def ramp(sentences: int = 1, length: int = SENTENCE) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.tile((np.arange(length) % 32_768).astype("<i2"), sentences)


def feed(checker: RampChecker, samples: np.ndarray[Any, np.dtype[np.int16]], piece: int = 3200) -> None:
    for start in range(0, samples.size, piece):
        checker.feed(samples[start : start + piece].tobytes())


# -- the ramp -------------------------------------------------------------------------------------


@given(sentences=st.integers(1, 3), piece=st.integers(1, 20_000), length=st.sampled_from([100, SENTENCE, 48_000]))
def test_a_whole_reply_is_whole_however_it_is_cut(sentences: int, piece: int, length: int) -> None:
    checker = RampChecker(length)
    feed(checker, ramp(sentences, length), max(piece, length // 50))
    checker.finish()
    assert (checker.lost, checker.doubled) == (0, 0)


@given(start=st.integers(0, 31_000), length=st.integers(1, 7_000), piece=st.integers(400, 9_000))
def test_every_missing_sample_counts(start: int, length: int, piece: int) -> None:
    whole = ramp(2)
    length = min(length, whole.size - start)
    checker = RampChecker(SENTENCE)
    feed(checker, np.delete(whole, slice(start, start + length)), piece)
    checker.finish()
    assert (checker.lost, checker.doubled) == (length, 0)


@given(start=st.integers(0, 25_000), length=st.integers(1, 7_000), piece=st.integers(400, 9_000))
def test_every_doubled_sample_counts(start: int, length: int, piece: int) -> None:
    whole = ramp(2)
    again = whole[start : start + length]
    checker = RampChecker(SENTENCE)
    feed(checker, np.insert(whole, start + length, again), piece)
    checker.finish()
    assert (checker.lost, checker.doubled) == (0, length)


def test_a_reply_without_audio_lost_a_sentence() -> None:
    checker = RampChecker(SENTENCE)
    checker.finish()
    assert checker.lost == SENTENCE


def test_a_foreign_sample_is_a_lost_one() -> None:
    samples = ramp()
    samples[5000] = -7
    checker = RampChecker(SENTENCE)
    feed(checker, samples)
    checker.finish()
    assert (checker.lost, checker.doubled) == (1, 0)


# -- percentiles and places -----------------------------------------------------------------------


def test_summary_of_known_values() -> None:
    assert summary([float(value) for value in range(101)]) == {"n": 101, "p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert summary([]) == {"n": 0}


@given(callers=st.integers(1, 300))
def test_callers_are_spread_evenly_over_the_cycle(callers: int) -> None:
    places = sorted(spread(callers, CYCLE_FRAMES))
    assert len(places) == callers
    assert places[0] == 0
    assert places[-1] < CYCLE_FRAMES
    gaps = [later - earlier for earlier, later in pairwise([*places, CYCLE_FRAMES])]
    assert max(gaps) - min(gaps) <= 1


@given(callers=st.integers(8, 300))
def test_neighbours_in_phase_are_apart_in_the_cycle(callers: int) -> None:
    places = spread(callers, CYCLE_FRAMES)
    distances = [abs(later - earlier) for earlier, later in pairwise(places)]
    assert min(distances) >= CYCLE_FRAMES // 5


# -- what is said ---------------------------------------------------------------------------------


async def test_the_clip_is_speech_from_end_to_end() -> None:
    frames = await speech_frames()
    assert len(frames) == SPEECH_FRAMES
    samples = np.frombuffer(b"".join(frames), dtype="<i2").astype(float)
    assert abs(samples[0]) > ONSET_LEVEL
    level_db = 20 * np.log10(np.sqrt((samples.reshape(-1, FRAME_SAMPLES) ** 2).mean(axis=1)) / 32_768)
    assert level_db.min() > -45
    assert level_db[-1] > -30


def test_a_short_voice_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        trim(np.full(20_000, 1000, dtype=np.int16))


def test_quiet_is_neither_zero_nor_loud() -> None:
    samples = np.frombuffer(b"".join(quiet_frames()), dtype="<i2")
    assert 0 < np.abs(samples).max() < 20
    assert frames_of(np.zeros(700, dtype=np.int16)) == [bytes(640), bytes(640)]


# -- one caller -----------------------------------------------------------------------------------


class Silent(Caller):
    """A caller who keeps what it would have sent."""

    def __init__(self, tally: Tally, clip: tuple[list[bytes], list[bytes]], wait_frames: int, samples: int) -> None:
        super().__init__(tally, clip, wait_frames, samples)
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)


class Line:
    """A caller on a clock of its own: no socket, no waiting."""

    def __init__(self, wait_frames: int = 0) -> None:
        self.tally = Tally(endpoint_ms=500)
        self.tally.window_ns = (0, 10**18)
        clip = ([b"s%d" % number for number in range(SPEECH_FRAMES)], [b"q"])
        self.caller = Silent(self.tally, clip, wait_frames, SENTENCE)
        self.frames = self.caller.frames
        self.now_ns = 0

    def play(self, frames: int) -> None:
        for _ in range(frames):
            self.now_ns += FRAME_NS
            self.caller.play(self.now_ns)

    def reply(self, turn: int, *, delay_ms: float) -> None:
        at_ns = self.now_ns + round(delay_ms * MS)
        self.caller.read({"type": "reply_started", "turn": turn}, at_ns)
        for start in range(0, SENTENCE, 3200):
            self.caller.take_audio(ramp()[start : start + 3200].tobytes(), at_ns)
        self.caller.read({"type": "reply_done", "turn": turn, "status": "completed"}, at_ns)

    @property
    def harm(self) -> dict[str, int]:
        self.caller.add_up()
        return {name: count for name, count in self.tally.counts.items() if count and name not in ("turns", "replies")}


async def test_overhead_counts_from_the_end_of_speech_less_the_endpoint() -> None:
    line = Line()
    line.play(SPEECH_FRAMES)
    line.reply(1, delay_ms=512.5)
    assert line.tally.overhead_ms == [pytest.approx(12.5)]
    assert line.frames == [b"s%d" % number for number in range(SPEECH_FRAMES)]
    assert line.harm == {}


async def test_a_cycle_is_speech_then_quiet_after_the_wait() -> None:
    line = Line(wait_frames=3)
    line.play(3 + CYCLE_FRAMES)
    line.play(1)
    assert Counter(line.frames)[b"q"] == 3 + CYCLE_FRAMES - SPEECH_FRAMES
    assert line.frames[3] == line.frames[-1] == b"s0"


async def test_a_turn_outside_the_window_is_not_measured() -> None:
    line = Line()
    line.tally.window_ns = (10**17, 10**18)
    line.play(SPEECH_FRAMES)
    line.reply(1, delay_ms=510)
    assert line.tally.overhead_ms == []


async def test_no_reply_until_the_next_speech_is_counted() -> None:
    line = Line()
    line.play(CYCLE_FRAMES + 1)
    assert line.harm == {"unanswered": 1}


async def test_two_replies_to_one_turn_and_old_turns_are_counted() -> None:
    line = Line()
    line.play(SPEECH_FRAMES)
    line.reply(1, delay_ms=510)
    line.reply(2, delay_ms=520)
    assert line.harm == {"unexpected_replies": 1}
    line.play(CYCLE_FRAMES)
    line.reply(2, delay_ms=510)
    assert line.harm == {"unexpected_replies": 2}


async def test_audio_after_an_interrupt_is_late() -> None:
    line = Line()
    line.play(SPEECH_FRAMES)
    line.caller.read({"type": "reply_started", "turn": 1}, line.now_ns)
    line.caller.take_audio(ramp()[:3200].tobytes(), line.now_ns)
    line.caller.read({"type": "interrupt", "turn": 1, "heard_ms": 100}, line.now_ns)
    line.caller.take_audio(ramp()[3200:6400].tobytes(), line.now_ns)
    assert line.harm == {"unexpected_interrupts": 1, "late_samples": 3200}


async def test_barge_in_counts_from_the_first_sample_of_speech() -> None:
    line = Line()
    line.play(SPEECH_FRAMES)
    line.tally.barging = True
    line.reply(1, delay_ms=10)
    audio_ns = line.now_ns + 10 * MS
    while line.frames[-1] != b"s0":
        line.play(1)
    onset_ns = line.now_ns - FRAME_NS
    assert audio_ns + BARGE_AFTER_NS <= onset_ns < audio_ns + BARGE_AFTER_NS + FRAME_NS
    line.caller.read({"type": "interrupt", "turn": 1, "heard_ms": 300}, onset_ns + 130 * MS)
    assert line.tally.barge_ms == [pytest.approx(130)]
    assert line.harm == {"interruptions": 1}


async def test_errors_are_kept_by_what_they_say() -> None:
    line = Line()
    line.caller.read({"type": "error", "code": "busy", "message": "no asr"}, 0)
    line.caller.read({"type": "reply_done", "turn": 1, "status": "failed"}, 0)
    assert line.tally.errors == {"busy: no asr": 1, "reply failed": 1}


# -- the clock ------------------------------------------------------------------------------------


async def test_the_ticker_neither_loses_nor_invents_ticks() -> None:
    ticks: list[int] = []
    enough = asyncio.Event()

    def on_tick(due: int) -> None:
        ticks.append(due)
        if sum(ticks) >= 20:
            enough.set()

    ticker = Ticker(MS, on_tick)
    async with asyncio.timeout(HANG_S):
        await enough.wait()
    elapsed = (monotonic_ns() - ticker.start_ns) // MS + 1
    ticker.close()
    assert 20 <= sum(ticks) <= elapsed


async def test_a_fleet_plays_every_caller_once_per_frame_at_its_own_time() -> None:
    tally = Tally(endpoint_ms=500)
    played: list[tuple[int, int]] = []
    full = asyncio.Event()

    class Counted(Caller):
        def play(self, due_ns: int) -> None:
            played.append((id(self), due_ns))
            if len(played) == 50:
                full.set()

    callers = [Counted(tally, ([b""], [b""]), 0, SENTENCE) for _ in range(25)]
    fleet = Fleet(list(callers), tally, grain_ms=1.0)
    async with asyncio.timeout(HANG_S):
        await full.wait()
    fleet.close()
    first, second = played[:25], played[25:50]
    assert {caller for caller, _ in first} == {id(caller) for caller in callers}
    assert [later[1] - earlier[1] for earlier, later in zip(first, second, strict=True)] == [FRAME_NS] * 25
    assert len({due_ns for _, due_ns in first}) == 20
