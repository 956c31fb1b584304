"""The wait that follows how a speaker pauses."""

from hypothesis import given
from hypothesis import strategies as st

from services.vad.endpointing.pace import LONGEST_MS, SHORTEST_MS, PaceDetector, PaceSpeaker
from shared.protocol.session import SessionSettings
from shared.settings import Settings

DEFAULTS = SessionSettings()


async def speaker(*pauses_ms: int) -> PaceSpeaker:
    """One who has gone on after these pauses, one in each turn; 0: a turn without any."""
    found = PaceDetector(Settings()).open()
    for pause_ms in pauses_ms:
        await found.wait_ms(b"", DEFAULTS)
        if pause_ms:
            found.resumed(pause_ms)
            await found.wait_ms(b"", DEFAULTS)
        found.committed(500)
    return found


async def wait_ms(*pauses_ms: int) -> int:
    return await (await speaker(*pauses_ms)).wait_ms(b"", DEFAULTS)


async def test_it_begins_as_patient_as_the_constant() -> None:
    assert await wait_ms() == DEFAULTS.endpoint_ms
    assert await PaceSpeaker().wait_ms(b"", SessionSettings(endpoint_ms=700)) == 700


async def test_a_fluent_speaker_is_answered_sooner() -> None:
    assert await wait_ms(*[0] * 4) < 450
    assert await wait_ms(*[0] * 15) == SHORTEST_MS


async def test_a_slow_speaker_is_waited_for() -> None:
    assert await wait_ms(*[700, 500, 800, 650] * 3) > 750
    assert await wait_ms(*[1100, 1900] * 10) == LONGEST_MS


async def test_who_goes_on_after_being_cut_off_is_waited_for() -> None:
    """Each piece looks like a turn without a pause; that the next one follows at once says that it was none."""
    found = PaceDetector(Settings()).open()
    for _ in range(6):
        await found.wait_ms(b"", DEFAULTS)
        found.committed(500)
        found.resumed(650)
    assert await found.wait_ms(b"", DEFAULTS) > 650


async def test_one_long_pause_is_soon_forgotten() -> None:
    assert await wait_ms(*[200, 220] * 8, 60_000) <= LONGEST_MS
    assert await wait_ms(*[200, 220] * 8, 60_000, *[200, 220] * 8) < 500


async def test_what_is_learned_before_it_was_asked_counts_for_nothing() -> None:
    found = PaceSpeaker()
    found.resumed(1900)
    found.committed(500)
    assert await found.wait_ms(b"", DEFAULTS) == DEFAULTS.endpoint_ms


@given(pauses=st.lists(st.integers(0, 10_000), max_size=60))
async def test_whatever_is_learned_the_wait_is_bounded_and_survives_a_takeover(pauses: list[int]) -> None:
    found = await speaker(*pauses)
    assert SHORTEST_MS <= await found.wait_ms(b"", DEFAULTS) <= LONGEST_MS
    successor = PaceSpeaker()
    successor.restore(found.state())
    assert successor.state() == found.state()
    for one in (found, successor):
        one.resumed(300)
    assert await successor.wait_ms(b"", DEFAULTS) == await found.wait_ms(b"", DEFAULTS)


async def test_the_state_of_another_engine_is_left_alone() -> None:
    found = PaceSpeaker()
    found.restore([])
    assert await found.wait_ms(b"", DEFAULTS) == DEFAULTS.endpoint_ms
