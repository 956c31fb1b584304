"""When a client ran out of sound: gaps that a person hears, and none that were meant or that nobody hears."""

import pytest

from services.edge.conversation.playout import Playout
from shared.protocol.frames import VoiceChunk

RATE = 16_000
CHUNK = 3_200


def speak(playout: Playout, begin: int, end: int, rate_hz: int = RATE) -> None:
    """The engine has said these samples."""
    for offset in range(begin, end, CHUNK):
        playout.add(VoiceChunk(1, 0, 0, offset, rate_hz, bytes(2 * min(CHUNK, end - offset)), ()), 1)


@pytest.mark.parametrize("keeps", [False, True])
def test_a_reply_that_goes_on_after_a_pause_starved_nobody(keeps: bool) -> None:
    playout = Playout(RATE, 0.5, keeps=keeps)
    speak(playout, 0, 2 * RATE)
    for at_s in (0.0, 0.2, 0.3):
        playout.release(at_s)
    playout.pause(0.4)
    playout.resume(1.0)
    playout.release(1.0001)
    playout.release(1.3)
    assert playout.underruns == 0


def test_a_pause_between_two_pieces_of_sound_starved_nobody() -> None:
    playout = Playout(RATE, 0.5)
    speak(playout, 0, CHUNK)
    playout.release(0.0)
    playout.pause(1.0)
    speak(playout, CHUNK, 2 * CHUNK)
    playout.resume(2.0)
    playout.release(2.0001)
    assert playout.underruns == 0


def test_a_client_starves_after_a_pause_as_before_it() -> None:
    playout = Playout(RATE, 0.5, keeps=True)
    speak(playout, 0, CHUNK)
    playout.release(0.0)
    playout.pause(0.1)
    playout.resume(1.0)
    playout.release(1.0001)
    speak(playout, CHUNK, 2 * CHUNK)
    playout.release(3.0)
    assert playout.underruns == 1


def test_what_the_resampler_held_back_is_no_gap() -> None:
    playout = Playout(RATE, 0.5)
    speak(playout, 0, 24_000, 24_000)
    playout.sentence_done(0, 24_000)
    for step in range(20):
        playout.release(step / 10)
    sent = playout.sent
    playout.expect(1)  # the chat model went on for a while, with the call of a tool
    playout.release(2.5)
    assert playout.sent > sent
    assert playout.underruns == 0


def test_a_late_sentence_is_a_gap() -> None:
    playout = Playout(RATE, 0.5)
    speak(playout, 0, CHUNK)
    playout.release(0.0)
    playout.release(0.5)
    assert playout.underruns == 0  # there may be no more of it
    speak(playout, CHUNK, 2 * CHUNK)
    playout.release(0.6)
    playout.release(0.7)
    assert playout.underruns == 1
