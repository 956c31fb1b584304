"""A connection whose session cannot be read from the broker gets the request to come back; the session is not given up."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.edge.client import actions as act
from services.edge.gateway import lifetime
from services.edge.gateway.session import Session
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone


class Socket:
    """A client that stays connected until the server closes."""

    def __init__(self) -> None:
        self.closed: tuple[int, str] | None = None

    async def receive(self) -> dict[str, Any]:
        return await asyncio.Future()

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason


async def resume(take_line: Any) -> tuple[int, str] | None:
    """Resume with a bus whose `take_line` is this. Returns with what the connection was closed; None: it is still open."""
    begun: list[act.Resume] = []
    session = SimpleNamespace(
        line="line", protocol="stream", rate_hz=16_000, started=False, may_be_silent=True, began_s=0.0,
        is_worth_resuming=False, begin_anew=begun.append, notify=lambda *_: None, keep_alive=lambda: None,
        hang_up=lambda *_: None,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[tuple[int, str]] = loop.create_future()
    resuming: asyncio.Future[act.Resume] = loop.create_future()
    wish = act.Resume("session.secret", number=0, turn=0, samples=0)
    resuming.set_result(wish)
    socket, bus = Socket(), SimpleNamespace(take_line=take_line)
    closing = asyncio.create_task(
        lifetime.until_closed(
            cast("Any", socket), cast("Session", session), ending, resuming, cast("Bus", bus), max_session_s=1e9
        )
    )
    await asyncio.wait([closing], timeout=0.2)
    if not closing.done():
        assert begun == [wish]
        ending.set_result((1000, "the test is over"))
        await closing
        return None
    assert not begun
    return socket.closed


async def test_a_session_that_is_gone_begins_anew() -> None:
    async def gone(*_: object) -> list[object]:
        return []

    assert await resume(gone) is None


async def test_a_broker_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "RESUME_S", 0.01)

    async def late(*_: object) -> list[object]:
        return await asyncio.Future()

    assert await resume(late) == (1012, "the broker does not answer: resume again")


async def test_a_broker_that_goes_away() -> None:
    async def lost(*_: object) -> list[object]:
        raise BrokerGone("the connection was closed")

    assert await resume(lost) == (1012, "the broker does not answer: resume again")
