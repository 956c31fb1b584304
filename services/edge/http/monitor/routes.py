"""`/monitor`: how the system is and how its turns go, live, for who has no Grafana."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

from services.edge.gateway.gateway import Edge
from services.edge.http.monitor.event_log import log_rows
from services.edge.http.monitor.snapshot import SLOW_MS, Row, snapshot, turn_row
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.protocol.streams import SESSION_TTL_S, StreamKind
from shared.settings import Settings

WEB = Path(__file__).parents[2] / "web"
TURNS_LOOKED_AT = 200
"""Turns, of all edges, that the figures are of."""
TURNS_SEARCHED = 1_000
"""Turns, of all sessions, among which those of one session are looked for."""
ENTRIES = 300
"""Entries of a session's log that one answer has; there are kilobytes of sound in many of them."""
HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d+)?")
ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}")
SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
HEADERS = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"}


def monitor_router(edge: Edge) -> APIRouter:
    """The routes of the monitor; where it is switched off there are none."""

    def check(request: Request) -> None:
        if not is_open(edge.settings, request):
            raise HTTPException(404, "there is no monitor here: PARLEY_MONITOR=on opens it", HEADERS)

    latest = LatestTurns()
    router = APIRouter(prefix="/monitor", dependencies=[Depends(check)])

    @router.get("")
    async def page() -> FileResponse:
        return FileResponse(WEB / "monitor/overview.html")

    @router.get("/sessions/{session}")
    async def session_page(session: str) -> FileResponse:
        return FileResponse(WEB / "monitor/session.html")

    @router.get("/data")
    async def data() -> JSONResponse:
        bus = edge.bus
        turns: list[Row] = []
        try:
            if bus is not None:
                turns = await latest.rows(bus)
        except BrokerGone:
            bus = None
        refusal = edge.refusal()
        shown = snapshot(
            now_ms=0 if bus is None else bus.clock.now_ms(),
            statuses={} if bus is None else edge.monitor.statuses(),
            broker=None if bus is None else edge.monitor.broker,
            turns=turns,
            sessions=[(session.protocol, session.stats()) for session in edge.sessions],
            refusal=None if refusal is None else refusal.message,
            queue_age_limit_ms=edge.settings.queue_age_limit_ms,
        )
        return JSONResponse(shown, headers=HEADERS)

    @router.get("/sessions/{session}/data")
    async def session_data(session: str, after: str = "-") -> JSONResponse:
        if after != "-" and not ENTRY_ID.fullmatch(after):
            return _bad_id(after)
        if not SESSION_ID.fullmatch(session):
            return _unknown(session)
        bus = edge.bus
        try:
            if bus is None:
                raise BrokerGone("the broker is not reachable")
            log = await _log(bus, session, after, content=edge.settings.log_content)
            if after == "-":
                known = [turn_row(*found) for found in await bus.turns(TURNS_SEARCHED) if found[1].session == session]
            else:
                known = [row for row in await latest.rows(bus) if row["session"] == session]
        except BrokerGone as error:
            return _error(503, "unavailable", str(error))
        except BrokerRefused:  # a number that is too large
            return _bad_id(after)
        here = next((one for one in edge.sessions if one.id == session), None)
        if here is None and log is None and not known and after == "-":
            return _unknown(session)
        shown = {
            "id": session,
            "now_ms": bus.clock.now_ms(),
            "slow_ms": SLOW_MS,
            "live": None if here is None else {"protocol": here.protocol, **here.stats()},
            "turns": known,
            "log": log,
            "log_kept_s": SESSION_TTL_S,
            "masked": not edge.settings.log_content,
        }
        return JSONResponse(shown, headers=HEADERS)

    return router


class LatestTurns:
    """The latest turns of all edges. Only new ones are asked for: to read all of them each second would hold up the
    audio of the conversations for milliseconds."""

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._rows: dict[str, Row] = {}

    async def rows(self, bus: Bus) -> list[Row]:
        """The oldest first."""
        if bus is not self._bus:
            self._bus, self._rows = bus, {}
        rows = self._rows
        for entry_id, record in await bus.turns(TURNS_LOOKED_AT, next(reversed(rows), "-")):
            if entry_id not in rows:  # two may have asked at once
                rows[entry_id] = turn_row(entry_id, record)
        for entry_id in list(rows)[:-TURNS_LOOKED_AT]:
            del rows[entry_id]
        return list(rows.values())


def is_open(settings: Settings, request: Request) -> bool:
    """Whether this request may see the monitor.

    Where only this machine may, the name that it was asked under has to be this machine's as well: a page of another
    site can have its own name lead here, and a proxy lets others in.
    """
    if settings.monitor != "auto":
        return settings.monitor == "on"
    asked = HOST.fullmatch(request.headers.get("host", ""))
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "via"))
    return is_loopback(settings.host) and asked is not None and is_loopback(asked[1]) and not forwarded


def is_loopback(host: str) -> bool:
    """Whether it is an address or the name of this machine that no other one can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


async def _log(bus: Bus, session: str, after: str, *, content: bool) -> list[dict[str, Any]] | None:
    """Rows of the session's log after an entry, or of its newest entries, the oldest first; None: it is not there."""
    key = bus.keys.stream(StreamKind.OUT, session)
    begin = after if after == "-" else f"({after}"
    entries = await bus.call(b"XREVRANGE", key, b"+", begin, b"COUNT", ENTRIES)
    if not entries and not await bus.call(b"EXISTS", key):
        return None
    return [row for entry_id, values in reversed(entries) for row in log_rows(entry_id, values, content=content)]


def _unknown(session: str) -> JSONResponse:
    message = f"session {session[:64]!r} is unknown: it has no log and no turn among the latest {TURNS_SEARCHED}"
    return _error(404, "session_unknown", message)


def _bad_id(after: str) -> JSONResponse:
    return _error(400, "invalid_after", f"after={after[:40]!r} is no id of an entry: 1700000000000-0 is one")


def _error(status: int, code: str, message: str) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"type": kind, "code": code, "message": message}}, status, HEADERS)
