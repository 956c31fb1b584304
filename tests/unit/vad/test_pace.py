"""The pace engine: the wait follows the pauses of the speaker."""

from hypothesis import given
from hypothesis import strategies as st

from services.vad.endpointing.engine import Pause
from services.vad.endpointing.pace import LONGEST_MS, SHORTEST_MS, PaceDetector, PaceSpeaker
from shared.protocol.session import SessionSettings
from shared.settings import Settings

DEFAULTS = SessionSettings()


async def waits_ms(found: PaceSpeaker, settings: SessionSettings = DEFAULTS) -> int:
    return (await found.decide(Pause(1, 0), settings)).wait_ms


async def speaker(*pauses_ms: int) -> PaceSpeaker:
    """A speaker with one pause of this length in each turn; 0: a turn without a pause."""
    found = PaceDetector(Settings()).open()
    for pause_ms in pauses_ms:
        await waits_ms(found)
        if pause_ms:
            found.resumed(pause_ms)
            await waits_ms(found)
        found.committed(500)
    return found


async def wait_ms(*pauses_ms: int) -> int:
    return await waits_ms(await speaker(*pauses_ms))


async def test_the_first_wait_is_endpoint_ms() -> None:
    assert await wait_ms() == DEFAULTS.endpoint_ms
    assert await waits_ms(PaceSpeaker(), SessionSettings(endpoint_ms=700)) == 700


async def test_the_wait_gets_shorter_for_a_fluent_speaker() -> None:
    assert await wait_ms(*[0] * 4) < 450
    assert await wait_ms(*[0] * 15) == SHORTEST_MS


async def test_the_wait_gets_longer_for_a_slow_speaker() -> None:
    assert await wait_ms(*[700, 500, 800, 650] * 3) > 750
    assert await wait_ms(*[1100, 1900] * 10) == LONGEST_MS


async def test_the_wait_gets_longer_after_turns_were_cut_off() -> None:
    """Each piece looks like a turn without a pause, until speech right after the commit shows that it was cut off."""
    found = PaceDetector(Settings()).open()
    for _ in range(6):
        await waits_ms(found)
        found.committed(500)
        found.resumed(650)
    assert await waits_ms(found) > 650


async def test_one_long_pause_has_a_short_effect() -> None:
    assert await wait_ms(*[200, 220] * 8, 60_000) <= LONGEST_MS
    assert await wait_ms(*[200, 220] * 8, 60_000, *[200, 220] * 8) < 500


async def test_pauses_before_the_first_wait_are_ignored() -> None:
    found = PaceSpeaker()
    found.resumed(1900)
    found.committed(500)
    assert await waits_ms(found) == DEFAULTS.endpoint_ms


@given(pauses=st.lists(st.integers(0, 10_000), max_size=60))
async def test_the_wait_is_bounded_and_survives_a_takeover(pauses: list[int]) -> None:
    found = await speaker(*pauses)
    assert SHORTEST_MS <= await waits_ms(found) <= LONGEST_MS
    successor = PaceSpeaker()
    successor.restore(found.state())
    assert successor.state() == found.state()
    for one in (found, successor):
        one.resumed(300)
    assert await waits_ms(successor) == await waits_ms(found)


async def test_the_state_of_another_engine_is_ignored() -> None:
    found = PaceSpeaker()
    found.restore([])
    assert await waits_ms(found) == DEFAULTS.endpoint_ms
