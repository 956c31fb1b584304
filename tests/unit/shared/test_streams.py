"""Keys and routes: a session lives in one slot of the broker, and what stands in its log was handed on before."""

from itertools import chain

import pytest

from shared.protocol.streams import JOBS, MAXLEN, ROUTES, Keys, StreamKind

KEYS = Keys()
JOB_STREAMS = frozenset(JOBS.values())


def hash_tag(key: bytes) -> bytes:
    return key.partition(b"{")[2].partition(b"}")[0]


@pytest.mark.parametrize("session", [f"session-{number}" for number in range(10)])
def test_all_keys_of_a_session_live_in_one_slot(session: str) -> None:
    keys = [*KEYS.of_session(session), *(KEYS.stream(place, session) for place in StreamKind)]
    assert {hash_tag(key) for key in keys} == {b"0"}


def test_keys_of_two_sessions_are_different_unless_they_are_shared() -> None:
    assert not set(KEYS.of_session("one")) & set(KEYS.of_session("two"))
    for place in StreamKind:
        assert (KEYS.stream(place, "one") == KEYS.stream(place, "two")) == (place in JOB_STREAMS)


def test_a_stage_reads_the_stream_that_its_jobs_are_written_to() -> None:
    for stage, place in JOBS.items():
        assert KEYS.jobs(stage) == KEYS.stream(place, "any session")


def test_every_stream_has_a_limit() -> None:
    assert set(MAXLEN) == set(StreamKind)
    assert all(count > 0 for count in MAXLEN.values())


@pytest.mark.parametrize("role", ROUTES)
def test_the_log_of_a_session_comes_last(role: str) -> None:
    for kind, places in ROUTES[role].items():
        assert len(set(places)) == len(places) > 0, kind
        assert StreamKind.OUT not in places[:-1], kind


def test_what_is_handed_out_as_work_says_for_which_session() -> None:
    routes = chain.from_iterable(table.items() for table in ROUTES.values())
    for kind in {kind for kind, places in routes if JOB_STREAMS & set(places)}:
        assert "session" in kind.__dataclass_fields__, kind
