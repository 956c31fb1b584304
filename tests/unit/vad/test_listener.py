"""The listener publishes a turn's audio completely and once, however it arrives and whichever worker processes it."""

from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from services.vad.engine import WINDOW_BYTES
from services.vad.listener import Detection, Listener
from shared.protocol.frames import (
    AudioChunk,
    Frame,
    PauseTranscribed,
    SessionEnded,
    SpeechPaused,
    SpeechStarted,
    TextTyped,
    TurnCommitted,
    TurnDiscarded,
)
from shared.protocol.session import ReplyOptions, SessionSettings


def probabilities(windows: bytes) -> Iterator[float]:
    """A window is speech if its first sample is not zero."""
    assert len(windows) % WINDOW_BYTES == 0
    return iter([float(windows[at : at + 2] != b"\0\0") for at in range(0, len(windows), WINDOW_BYTES)])


def accept(listener: Listener, entry_id: str, frames: Sequence[Frame]) -> Detection:
    return listener.accept(entry_id, frames, probabilities(listener.take(entry_id, frames)))


def sound(*runs: tuple[bool, int]) -> bytes:
    """Windows of speech (True) and silence; every sample of the speech differs from its neighbours."""
    pcm = bytearray()
    for spoken, windows in runs:
        for _ in range(windows * WINDOW_BYTES // 2):
            pcm += (len(pcm) // 2 % 30_000 + 1 if spoken else 0).to_bytes(2, "little")
    return bytes(pcm)


def entries(pcm: bytes, sizes: Sequence[int]) -> list[tuple[str, list[Frame]]]:
    """Cut the audio into entries of these sizes, in samples, and the rest into entries of 20 ms."""
    found: list[tuple[str, list[Frame]]] = []
    at = 0
    for size in [*sizes, *[320] * (len(pcm) // 640 + 1)]:
        if at < len(pcm):
            found.append((f"{1000 + len(found)}-0", [AudioChunk(at // 2, pcm[at : at + 2 * size])]))
            at += 2 * size
    return found


def run(listener: Listener, added: Sequence[tuple[str, Sequence[Frame]]]) -> tuple[list[Frame], bytearray, list[bytes]]:
    """Return the facts, the published audio placed by offset, and the checkpoint after each entry with facts."""
    facts: list[Frame] = []
    audio, checkpoints = bytearray(), []
    for entry_id, frames in added:
        detection = accept(listener, entry_id, frames)
        facts += detection.facts
        if detection.facts:
            checkpoints.append(listener.checkpoint())
        for chunk in (*detection.speech, *detection.late_speech):
            place(audio, chunk)
    return facts, audio, checkpoints


def place(audio: bytearray, chunk: AudioChunk) -> None:
    end = 2 * chunk.offset + len(chunk.pcm)
    audio.extend(b"\xff" * (end - len(audio)))
    audio[2 * chunk.offset : end] = chunk.pcm


def assert_turns_are_complete(facts: Sequence[Frame], audio: bytearray, pcm: bytes) -> None:
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
def test_turns_are_complete_however_the_audio_is_cut(cuts: list[int]) -> None:
    facts, audio, _ = run(Listener("s", SessionSettings()), entries(SPOKEN, cuts))
    assert sum(isinstance(fact, TurnCommitted) for fact in facts) == 2
    assert_turns_are_complete(facts, audio, SPOKEN)


def test_nothing_is_published_while_nobody_speaks() -> None:
    silence = entries(sound((False, 500)), [])
    facts, audio, _ = run(Listener("s", SessionSettings()), silence)
    assert (facts, audio) == ([], bytearray())


def test_duplicate_entries_are_processed_once() -> None:
    once = entries(SPOKEN, [])
    doubled = [entry for entry in once for _ in range(2)]
    assert run(Listener("s", SessionSettings()), doubled)[:2] == run(Listener("s", SessionSettings()), once)[:2]


def test_missing_input_is_filled_with_silence() -> None:
    whole = entries(SPOKEN, [])
    holed = [entry for index, entry in enumerate(whole) if not 50 <= index < 55]
    facts, audio, _ = run(Listener("s", SessionSettings()), holed)
    expected = bytearray(SPOKEN)
    expected[50 * WINDOW_BYTES : 55 * WINDOW_BYTES] = bytes(5 * WINDOW_BYTES)
    assert_turns_are_complete(facts, audio, bytes(expected))


def test_the_end_of_the_session_discards_the_turn_in_progress() -> None:
    listener = Listener("s", SessionSettings())
    run(listener, entries(sound((True, 20)), []))
    detection = accept(listener, "5000-0", [SessionEnded("left")])
    assert detection.ended
    assert [type(fact) for fact in detection.facts] == [TurnDiscarded]


def test_the_words_of_a_pause_are_handed_on_and_not_published() -> None:
    listener = Listener("s", SessionSettings(), transcribe=True)
    facts, _, _ = run(listener, entries(sound((True, 20), (False, 12)), []))
    assert [fact.transcribe for fact in facts if isinstance(fact, SpeechPaused)] == [True]
    words = PauseTranscribed(1, 0, "hello there")
    assert accept(listener, "5000-0", [words]).words == words
    assert listener.turns.pauses(1, 0)
    assert not listener.turns.pauses(1, 1)


def test_no_words_are_asked_for_where_the_silence_is_fixed() -> None:
    settings = SessionSettings(adapt_endpoint=False)
    facts, _, _ = run(Listener("s", settings, transcribe=True), entries(sound((True, 20), (False, 12)), []))
    assert [fact.transcribe for fact in facts if isinstance(fact, SpeechPaused)] == [False]


@settings(max_examples=60)
@given(cuts=sizes, survives=st.integers(0, 60), typed=st.integers(0, 220))
def test_a_takeover_repeats_and_loses_no_fact_and_no_audio(cuts: list[int], survives: int, typed: int) -> None:
    script = entries(SPOKEN, cuts)
    where = min(typed, len(script))
    dies = where + survives
    script.insert(where, (f"{1000 + where}-5" if where else "1-0", [TextTyped("hello", ReplyOptions())]))
    script.sort(key=lambda entry: tuple(int(part) for part in entry[0].split("-")))
    expected, _, _ = run(Listener("s", SessionSettings()), script)
    first = Listener("s", SessionSettings())
    published, audio, checkpoints = run(first, script[:dies])
    second = Listener("s", SessionSettings())
    if checkpoints:
        second.restore(checkpoints[-1], SessionSettings())
    order = [tuple(int(part) for part in entry_id.split("-")) for entry_id, _ in script]
    begin = tuple(int(part) for part in second.replay_from.split("-"))
    rest, more, _ = run(second, [entry for at, entry in zip(order, script, strict=True) if at > begin])
    assert [*published, *rest] == expected
    for at in range(len(more)):
        if at >= len(audio):
            audio.append(more[at])
        elif audio[at] == 0xFF:
            audio[at] = more[at]
    assert_turns_are_complete(expected, audio, SPOKEN)
