"""Listening: what goes to the recogniser is the turn's audio, whole and once, however it came, whoever listens."""

from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from services.vad.engine import WINDOW_BYTES
from services.vad.listener import Detection, Listener
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    SessionEnded,
    SpeechStarted,
    TextTyped,
    TurnCommitted,
    TurnDiscarded,
)
from shared.protocol.session import ReplyOptions, SessionSettings


def loud(windows: bytes) -> Iterator[float]:
    """Speech is where a window's first sample is not zero."""
    assert len(windows) % WINDOW_BYTES == 0
    return iter([float(windows[at : at + 2] != b"\0\0") for at in range(0, len(windows), WINDOW_BYTES)])


def accept(listener: Listener, entry_id: str, frames: Sequence[Frame]) -> Detection:
    return listener.accept(entry_id, frames, loud(listener.take(entry_id, frames)))


def sound(*runs: tuple[bool, int]) -> bytes:
    """Windows of speech and silence; every sample of the speech is different from its neighbours."""
    pcm = bytearray()
    for spoken, windows in runs:
        for _ in range(windows * WINDOW_BYTES // 2):
            pcm += (len(pcm) // 2 % 30_000 + 1 if spoken else 0).to_bytes(2, "little")
    return bytes(pcm)


def entries(pcm: bytes, sizes: Sequence[int]) -> list[tuple[str, list[Frame]]]:
    """The audio in entries of these sizes, in samples, and what is left in entries of 20 ms."""
    found: list[tuple[str, list[Frame]]] = []
    at = 0
    for size in [*sizes, *[320] * (len(pcm) // 640 + 1)]:
        if at < len(pcm):
            found.append((f"{1000 + len(found)}-0", [AudioChunk(at // 2, pcm[at : at + 2 * size])]))
            at += 2 * size
    return found


def run(listener: Listener, what: Sequence[tuple[str, Sequence[Frame]]]) -> tuple[list[Frame], bytearray, list[bytes]]:
    """Facts, the published audio laid out by offset, and the checkpoints with the facts they came with."""
    facts: list[Frame] = []
    audio, checkpoints = bytearray(), []
    for entry_id, frames in what:
        heard = accept(listener, entry_id, frames)
        facts += heard.facts
        if heard.facts:
            checkpoints.append(listener.checkpoint())
        for chunk in (*heard.speech, *heard.late_speech):
            lay(audio, chunk)
    return facts, audio, checkpoints


def lay(audio: bytearray, chunk: AudioChunk) -> None:
    end = 2 * chunk.offset + len(chunk.pcm)
    audio.extend(b"\xff" * (end - len(audio)))
    audio[2 * chunk.offset : end] = chunk.pcm


def assert_turns_are_whole(facts: Sequence[Frame], audio: bytearray, pcm: bytes) -> None:
    for started, committed in zip(
        [fact for fact in facts if isinstance(fact, SpeechStarted)],
        [fact for fact in facts if isinstance(fact, TurnCommitted)],
        strict=False,
    ):
        assert audio[2 * started.start : 2 * committed.end] == pcm[2 * started.start : 2 * committed.end]


SPOKEN = sound((False, 40), (True, 30), (False, 15), (True, 20), (False, 40), (True, 12), (False, 40))
sizes = st.lists(st.sampled_from([1, 37, 160, 320, 500, 1600]), max_size=150)


@settings(max_examples=60)
@given(cuts=sizes)
def test_however_the_audio_is_cut_the_turns_are_whole(cuts: list[int]) -> None:
    facts, audio, _ = run(Listener("s", SessionSettings()), entries(SPOKEN, cuts))
    assert sum(isinstance(fact, TurnCommitted) for fact in facts) == 2
    assert_turns_are_whole(facts, audio, SPOKEN)


def test_nothing_is_published_while_nobody_speaks() -> None:
    silence = entries(sound((False, 500)), [])
    facts, audio, _ = run(Listener("s", SessionSettings()), silence)
    assert (facts, audio) == ([], bytearray())


def test_what_comes_twice_is_heard_once() -> None:
    once = entries(SPOKEN, [])
    doubled = [entry for entry in once for _ in range(2)]
    assert run(Listener("s", SessionSettings()), doubled)[:2] == run(Listener("s", SessionSettings()), once)[:2]


def test_a_hole_in_the_input_is_silence() -> None:
    whole = entries(SPOKEN, [])
    holed = [entry for index, entry in enumerate(whole) if not 50 <= index < 55]
    facts, audio, _ = run(Listener("s", SessionSettings()), holed)
    expected = bytearray(SPOKEN)
    expected[50 * WINDOW_BYTES : 55 * WINDOW_BYTES] = bytes(5 * WINDOW_BYTES)
    assert_turns_are_whole(facts, audio, bytes(expected))


def test_the_client_leaves_in_the_middle_of_a_turn() -> None:
    listener = Listener("s", SessionSettings())
    run(listener, entries(sound((True, 20)), []))
    heard = accept(listener, "5000-0", [SessionEnded("left")])
    assert heard.ended
    assert [type(fact) for fact in heard.facts] == [TurnDiscarded]


@settings(max_examples=60)
@given(cuts=sizes, lives=st.integers(0, 60), typed=st.integers(0, 220))
def test_a_successor_says_what_was_not_said_and_nothing_twice(cuts: list[int], lives: int, typed: int) -> None:
    what = entries(SPOKEN, cuts)
    where = min(typed, len(what))
    dies = where + lives
    what.insert(where, (f"{1000 + where}-5" if where else "1-0", [TextTyped("hello", ReplyOptions())]))
    what.sort(key=lambda entry: tuple(int(part) for part in entry[0].split("-")))
    expected, _, _ = run(Listener("s", SessionSettings()), what)
    first = Listener("s", SessionSettings())
    said, audio, checkpoints = run(first, what[:dies])
    second = Listener("s", SessionSettings())
    if checkpoints:
        second.restore(checkpoints[-1], SessionSettings())
    order = [tuple(int(part) for part in entry_id.split("-")) for entry_id, _ in what]
    begin = tuple(int(part) for part in second.replay_from.split("-"))
    rest, more, _ = run(second, [entry for at, entry in zip(order, what, strict=True) if at > begin])
    assert [*said, *rest] == expected
    for at in range(len(more)):
        if at >= len(audio):
            audio.append(more[at])
        elif audio[at] == 0xFF:
            audio[at] = more[at]
    assert_turns_are_whole(expected, audio, SPOKEN)
