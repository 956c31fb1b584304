"""`/monitor`: the live state of the system and its latest turns, without Grafana."""

import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse

from services.edge.access.caller import Caller
from services.edge.access.mode import Mode
from services.edge.gateway.errors import error_response
from services.edge.gateway.gateway import Gateway
from services.edge.http.guard import caller_of
from services.edge.http.monitor.conversations import search, turns_of
from services.edge.http.monitor.event_log import ABOUT, log_rows
from services.edge.http.monitor.snapshot import SLOW_MS, Row, snapshot, turn_row, without_texts
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.protocol.streams import ENDED_TTL_S, StreamKind
from shared.settings import Settings

WEB = Path(__file__).parents[2] / "web" / "monitor"
TURNS_SHOWN = 200
"""The latest turns of all edges, from which the figures are computed."""
ENTRIES = 300
"""Most entries of a session's log in one answer; many of them hold kilobytes of audio."""
ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}")
SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CLOSED = "the monitor is closed to this request: it needs an operator's key, or PARLEY_MONITOR=on"
HEADERS = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}


def monitor_router(gateway: Gateway) -> APIRouter:
    """The routes of the monitor; they answer 404 to requests that may not see it."""

    def check(request: Request) -> None:
        if not is_open(gateway.settings, caller_of(request)):
            raise HTTPException(404, CLOSED, HEADERS)

    def check_page(request: Request) -> None:
        """The pages are open to whoever may have an operator's key: they ask for it."""
        asks = gateway.settings.monitor == "auto" and gateway.access.mode is not Mode.OPEN
        if not asks:
            check(request)

    latest = LatestTurns()
    router = APIRouter(prefix="/monitor")
    page_check, data_check = [Depends(check_page)], [Depends(check)]

    @router.get("", dependencies=page_check)
    async def page() -> FileResponse:
        return FileResponse(WEB / "overview.html")

    @router.get("/sessions/{session}", dependencies=page_check)
    async def session_page(session: str) -> FileResponse:
        return FileResponse(WEB / "session.html")

    @router.get("/data", dependencies=data_check)
    async def data() -> JSONResponse:
        bus = gateway.bus
        turns: list[Row] = []
        try:
            if bus is not None:
                turns = await latest.rows(bus)
        except BrokerGone:
            bus = None
        refusal = gateway.refusal()
        shown = snapshot(
            now_ms=0 if bus is None else bus.clock.now_ms(),
            statuses={} if bus is None else gateway.admission.statuses(),
            broker=None if bus is None else gateway.admission.broker,
            turns=turns,
            sessions=[(session.protocol, session.stats()) for session in gateway.connections.sessions],
            refusal=None if refusal is None else refusal.message,
            queue_age_limit_ms=gateway.settings.queue_age_limit_ms,
        )
        return JSONResponse(shown, headers=HEADERS)

    @router.get("/sessions/{session}/data", dependencies=data_check)
    async def session_data(session: str, after: str = "-") -> JSONResponse:
        if after != "-" and not ENTRY_ID.fullmatch(after):
            return _bad_id(after)
        if not SESSION_ID.fullmatch(session):
            return _unknown(session)
        bus = gateway.bus
        try:
            if bus is None:
                raise BrokerGone("the broker is not reachable")
            entries = await bus.raw_log(StreamKind.OUT, session, after, ENTRIES)
            if after == "-":
                known = await turns_of(bus, session)
            else:
                known = [row for row in await latest.rows(bus) if row["session"] == session]
        except BrokerGone as error:
            return error_response(503, "unavailable", str(error), HEADERS)
        except BrokerRefused:  # a number in the id is too large
            return _bad_id(after)
        here = next((one for one in gateway.connections.sessions if one.id == session), None)
        if here is None and entries is None and not known and after == "-":
            return _unknown(session)
        content = gateway.settings.log_content
        shown = {
            "id": session,
            "now_ms": bus.clock.now_ms(),
            "slow_ms": SLOW_MS,
            "live": None if here is None else {"protocol": here.protocol, **here.stats()},
            "turns": known if content else [without_texts(row) for row in known],
            "turns_kept_h": gateway.settings.keep_turns_h,
            "log": None if entries is None else [row for entry in entries for row in log_rows(*entry, content=content)],
            "log_kept_s": ENDED_TTL_S,
            "masked": not content,
            "about": ABOUT if after == "-" else {},
        }
        return JSONResponse(shown, headers=HEADERS)

    @router.get("/conversations", dependencies=data_check)
    async def conversations(
        find: Annotated[str, Query(max_length=200)] = "", outcome: Annotated[str, Query(max_length=20)] = ""
    ) -> JSONResponse:
        try:
            if gateway.bus is None:
                raise BrokerGone("the broker is not reachable")
            found = await search(gateway.bus, find, outcome, content=gateway.settings.log_content)
        except BrokerGone as error:
            return error_response(503, "unavailable", str(error), HEADERS)
        return JSONResponse({**found, "turns_kept_h": gateway.settings.keep_turns_h}, headers=HEADERS)

    return router


class LatestTurns:
    """A cache of the latest turns of all edges.

    It reads only new turns: reading all of them once a second would block the event loop, and so the audio of the
    conversations, for milliseconds.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._rows: dict[str, Row] = {}

    async def rows(self, bus: Bus) -> list[Row]:
        """The latest turns, the oldest first."""
        if bus is not self._bus:
            self._bus, self._rows = bus, {}
        rows = self._rows
        for entry_id, record in await bus.turns(TURNS_SHOWN, next(reversed(rows), "-")):
            if entry_id not in rows:  # a concurrent request may have added it
                rows[entry_id] = turn_row(entry_id, record)
        for entry_id in list(rows)[:-TURNS_SHOWN]:
            del rows[entry_id]
        return list(rows.values())


def is_open(settings: Settings, caller: Caller) -> bool:
    """Whether this caller may see the monitor. With `auto`, this machine and the keys of operators may."""
    if settings.monitor == "auto":
        return caller.local or (caller.key is not None and caller.key.operator)
    return settings.monitor == "on" and caller.secret is None


def _unknown(session: str) -> JSONResponse:
    message = f"session {session[:64]!r} is unknown: it has no log, and no turn that the broker still keeps"
    return error_response(404, "session_unknown", message, HEADERS)


def _bad_id(after: str) -> JSONResponse:
    message = f"after={after[:40]!r} is not an entry id such as 1700000000000-0"
    return error_response(400, "invalid_after", message, HEADERS)
