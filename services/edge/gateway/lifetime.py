"""How long a connection lasts: from its handshake until the client leaves, or the server has a reason to close it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from fastapi import WebSocket
from structlog.contextvars import bind_contextvars

from services.edge.client import actions as act
from services.edge.gateway.resume import take_session
from services.edge.gateway.session import Session
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone
from shared.observability import metrics

log = structlog.get_logger()

KEEP_ALIVE_S = 2.0
"""Interval of the keep-alive. A session notices within this time that the broker has lost its data."""
FIRST_MESSAGE_S = 5.0
"""A client that has to start its session and has not by then is disconnected."""
RESUME_S = 5.0
"""A session that cannot be read from the broker within this time is not resumed."""
DELIBERATE = (1000, 1001, 1005)
"""Close codes of a client that has ended its session. With any other it has lost its connection."""
FAULTS = (1011, 1012)
"""Close codes of a failed session: an internal error, or a shutdown or loss of the broker."""


async def until_closed(
    websocket: WebSocket,
    session: Session,
    ending: asyncio.Future[tuple[int, str]],
    resuming: asyncio.Future[act.Resume],
    bus: Bus,
    max_session_s: float,
) -> str:
    """Keep the session alive until either side closes. Returns the outcome: left, closed, failed or suspended.

    `ending`: the code and reason with which the server closes. `resuming`: the client wants to go on with an earlier session.
    """
    loop = asyncio.get_running_loop()
    connected_s = loop.time()
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(_disconnected(websocket))
        awaited: list[asyncio.Future[Any]] = [gone, ending, resuming]
        while not gone.done() and not ending.done():
            await asyncio.wait(awaited, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or ending.done():
                break
            if resuming in awaited and resuming.done():
                awaited.remove(resuming)
                if not await _resume(session, resuming.result(), bus) and not ending.done():
                    ending.set_result((1012, "the broker does not answer: resume again"))
                continue  # it may have been refused a place, and closed
            session.keep_alive()
            late = loop.time() - connected_s >= FIRST_MESSAGE_S
            if late and not session.started and not session.may_be_silent:
                ending.set_result((1008, f"the session was not started within {FIRST_MESSAGE_S:g} s"))
            elif loop.time() - session.began_s > max_session_s:
                session.hang_up(1008, f"the session reached its limit of {max_session_s} s")
        gone.cancel()
    if not ending.done():
        metrics.closes.labels(session.protocol, "client").inc()
        lost = gone.result() not in DELIBERATE
        return "suspended" if lost and session.is_worth_resuming else "left"
    code, reason = ending.result()
    if code in (1011, 1012, 1013):
        session.notify("closing", reason)
    with suppress(RuntimeError, OSError):  # the client may already be disconnected
        await websocket.close(code, reason[:120])
    metrics.closes.labels(session.protocol, str(code)).inc()
    if code == 1012 and session.is_worth_resuming:
        return "suspended"
    return "failed" if code in FAULTS else "closed"


async def _resume(session: Session, wish: act.Resume, bus: Bus) -> bool:
    """Go on with the session of another connection, or begin a new one if it is gone. Returns False if the broker does not say."""
    try:
        async with asyncio.timeout(RESUME_S):
            saved = await take_session(bus, wish, session.line, session.protocol, session.rate_hz)
    except (TimeoutError, BrokerGone):
        log.warning("session not resumed: the broker does not answer")
        return False
    if saved is None:
        log.info("session not resumed: it is gone")
        session.begin_anew(wish)
        return True
    bind_contextvars(session=saved.id)
    log.info("session resumed", protocol=session.protocol, entries=len(saved.entries), whole=saved.whole)
    session.resume(saved, wish)
    return True


async def _disconnected(websocket: WebSocket) -> int:
    """Return the close code when the client has disconnected. Its messages go to the session, not here, once the socket is
    attached."""
    receive: Callable[[], asyncio.Future[dict[str, Any]]] = websocket.receive  # type: ignore[assignment]
    while (event := await receive())["type"] != "websocket.disconnect":
        pass
    # Without a close frame, uvicorn reports 1005 and no reason: the connection was lost.
    return int(event["code"]) if "reason" in event else 1006
