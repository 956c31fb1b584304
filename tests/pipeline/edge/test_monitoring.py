"""The monitor over HTTP: access, answers with and without a broker, and masked texts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.edge.gateway.gateway import Gateway
from services.edge.http.app import create_app
from services.edge.http.monitor.conversations import PAGE
from services.edge.http.monitor.routes import ENTRIES, TURNS_SHOWN
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone
from shared.bus.leases import Leases
from shared.network import is_loopback
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions, SessionSettings
from shared.protocol.streams import StreamKind
from shared.protocol.turn_record import TurnRecord
from shared.settings import STAGES, Settings
from shared.worker.lifecycle import Shutdown
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S

HERE = "http://127.0.0.1:8000"
SECRET = "what was said"
GPU = {"index": "0", "name": "H", "utilization": 1.0, "memory_process": 7}


def record(session: str, turn: int = 1) -> TurnRecord:
    marks = {"endpoint": 500.0, "transcript": 600.0, "first_audio": 900.0 + turn}
    return TurnRecord(session, turn, 1, "stream", "cascade", "completed", 0, 900, 1000, "ab" * 16, True, marks)


def client_of(gateway: Gateway, base: str = HERE) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(gateway)), base_url=base)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Gateway, Bus]]:
    """A gateway with a broker and one ready asr worker."""
    shutdown = Shutdown(1)
    gateway = Gateway(settings, shutdown)
    async with Bus.connect(settings, "edge") as bus, client_of(gateway) as client, asyncio.TaskGroup() as tasks:
        leases = Leases(bus, "asr", 60_000)
        await leases.open()
        await leases.ready({"engine": "test"}, {"slots": 4, "in_hand": 1, "loop_lag_ms": 1.5, "gpus": [GPU]})
        tasks.create_task(gateway.run(bus))
        async with asyncio.timeout(HANG_S):
            while not gateway.admission.statuses() or gateway.admission.broker is None:
                await asyncio.sleep(0.005)
        yield client, gateway, bus
        shutdown.request()


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings


async def get(client: httpx.AsyncClient, path: str, **options: Any) -> Any:
    response = await client.get(path, **options)
    assert response.status_code == 200, response.text
    return response.json()


def talk(bus: Bus, session: str) -> None:
    channel = bus.channel("edge", session)
    channel.publish(fr.SessionStarted(session, SessionSettings(instructions=SECRET)))
    channel.publish(fr.TranscriptFinal(session, 1, 0, SECRET, ReplyOptions()))


async def test_the_snapshot_has_stages_loads_broker_and_turns(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        bus.keep_turn(record("one"))
        data = await get(client, "/monitor/data")
    states = {one["stage"]: one["state"] for one in data["stages"]}
    assert states == {**dict.fromkeys(STAGES, "missing"), "asr": "ready"}
    asr = next(one for one in data["stages"] if one["stage"] == "asr")
    assert (asr["slots"], asr["free"], asr["workers"][0]["loop_lag_ms"]) == (4, 3, 1.5)
    assert data["gpus"][0]["workers"][0]["memory"] == 7
    assert data["refusal"] == "no vad worker is ready"
    assert data["broker"]["clients"] >= 1
    assert [(row["session"], row["slow"]) for row in data["turns"]] == [("one", True)]
    assert data["sessions"] == {"count": 0, "newest": []}


async def test_a_session_is_shown_with_its_turns_and_a_masked_log(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        talk(bus, "one")
        for turn in (1, 2):
            bus.keep_turn(record("one", turn))
        bus.keep_turn(record("other"))
        response = await client.get("/monitor/sessions/one/data")
        data = response.json()
        newer = await get(client, f"/monitor/sessions/one/data?after={data['log'][0]['id']}")
        assert [row["type"] for row in data["log"]] == ["SessionStarted", "TranscriptFinal"]
        assert [row["turn"] for row in data["turns"]] == [1, 2]
        assert [row["type"] for row in newer["log"]] == ["TranscriptFinal"]
        assert data["log"][1]["fields"]["text"] == f"{len(SECRET)} characters"
        assert SECRET not in response.text
        assert (data["live"], data["masked"]) == (None, True)


async def test_new_turns_are_added_and_the_oldest_dropped(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        for turn in range(TURNS_SHOWN):
            bus.keep_turn(record("one", turn))
        first, again = await asyncio.gather(*(get(client, "/monitor/data") for _ in range(2)))
        assert first["turns"] == again["turns"]
        bus.keep_turn(record("one", 999))
        data = await get(client, "/monitor/data")
        assert [row["turn"] for row in data["turns"][:2]] == [999, TURNS_SHOWN - 1]
        assert data["latency"]["turns"] == TURNS_SHOWN
        after = data["turns"][0]["id"]
        newer = await get(client, f"/monitor/sessions/one/data?after={after}")
        assert len(newer["turns"]) == TURNS_SHOWN


async def test_texts_are_shown_if_content_may_be_logged(where: Settings) -> None:
    async with served(where.model_copy(update={"log_content": True})) as (client, _, bus):
        talk(bus, "one")
        data = await get(client, "/monitor/sessions/one/data")
        assert data["log"][1]["fields"]["text"] == SECRET
        assert not data["masked"]


def said(session: str, turn: int, text: str, outcome: str = "completed") -> TurnRecord:
    return replace(record(session, turn), said=text, reply="Good morning.", outcome=outcome)


async def test_past_conversations_are_found_by_text_id_and_outcome(where: Settings) -> None:
    async with served(where.model_copy(update={"log_content": True})) as (client, _, bus):
        for number in range(PAGE + 5):  # more than one page of records
            bus.keep_turn(said("long", number, "Hello."))
        bus.keep_turn(said("abc1", 1, "Where is the STATION?"))
        bus.keep_turn(said("abc1", 2, "Thanks.", "failed"))

        async def found(**query: str) -> list[str]:
            data = await get(client, "/monitor/conversations", params=query)
            assert data["searched_turns"] == PAGE + 7
            return [one["id"] for one in data["conversations"]]

        assert await found() == ["abc1", "long"]
        assert await found(find=" station ") == ["abc1"]
        assert await found(find="good morning") == ["abc1", "long"]
        assert await found(find="abc") == ["abc1"]
        assert await found(outcome="failed") == ["abc1"]
        assert await found(find="station", outcome="failed") == []  # of one turn
        (row,) = (await get(client, "/monitor/conversations", params={"find": "station"}))["conversations"]
        counts = [row[name] for name in ("turns", "failed", "interrupted", "slow", "said")]
        assert counts == [2, 1, 0, 2, "Where is the STATION?"]
        turns = (await get(client, "/monitor/sessions/long/data"))["turns"]
        assert [turn["turn"] for turn in turns] == list(range(PAGE + 5))
        assert "said" not in (await get(client, "/monitor/data"))["turns"][0]
        assert (await client.get("/monitor/conversations", params={"find": "x" * 201})).status_code == 422


async def test_texts_that_were_recorded_earlier_are_masked_too(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        bus.keep_turn(said("one", 1, SECRET))
        for path in ("/monitor/conversations", "/monitor/sessions/one/data"):
            response = await client.get(path)
            assert response.json()["masked"]
            assert SECRET not in response.text
        assert (await get(client, "/monitor/conversations", params={"find": SECRET}))["conversations"] == []
        assert len((await get(client, "/monitor/conversations", params={"find": "on"}))["conversations"]) == 1


async def test_turns_are_kept_as_long_as_the_settings_say(where: Settings) -> None:
    async with served(where.model_copy(update={"keep_turns_h": 2})) as (_, _, bus):
        old_ms = bus.clock.now_ms() - 3 * 3_600_000
        bus.send("XADD", bus.keys.turns(), f"{old_ms}-0", "t", record("old").pack())
        bus.keep_turn(record("new"))
        assert [one.session for _, one in await bus.turns(10)] == ["new"]
        assert 0 < await bus.call("TTL", bus.keys.turns()) <= 2 * 3600


async def test_turns_remain_after_the_log_has_expired(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        bus.keep_turn(record("one"))
        data = await get(client, "/monitor/sessions/one/data")
        assert (data["log"], len(data["turns"]), data["log_kept_s"]) == (None, 1, 10)


async def test_a_long_log_is_cut_to_its_newest_entries_and_unreadable_ones_are_marked(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        key = bus.keys.stream(StreamKind.OUT, "one")
        for _ in range(ENTRIES + 20):
            bus.send(b"XADD", key, b"*", b"f", b"\xff not a frame")
        data = await get(client, "/monitor/sessions/one/data")
        assert len(data["log"]) == ENTRIES
        assert {row["type"] for row in data["log"]} == {"unreadable"}
        ids = [tuple(map(int, row["id"].split("-"))) for row in data["log"]]
        assert ids == sorted(ids)
        assert await bus.call(b"XLEN", bus.keys.dead("edge")) == 0  # reading for display adds no dead letter


@pytest.mark.parametrize("session", ["nobody", "a" * 200, "{0}:jobs", "%0d%0a", "%F0%9F%92%A9", "..%5c"])
async def test_an_unknown_session_is_not_found(where: Settings, session: str) -> None:
    async with served(where) as (client, _, _):
        response = await client.get(f"/monitor/sessions/{session}/data")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "session_unknown")


@pytest.mark.parametrize("after", ["0", "x-1", "1-1 +", "9" * 30 + "-0", ""])
async def test_an_invalid_entry_id_is_refused(where: Settings, after: str) -> None:
    async with served(where) as (client, _, bus):
        talk(bus, "one")
        response = await client.get("/monitor/sessions/one/data", params={"after": after})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_after")


async def test_the_largest_entry_id_is_refused(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        talk(bus, "one")
        edge_case = "18446744073709551615-18446744073709551615"
        response = await client.get("/monitor/sessions/one/data", params={"after": edge_case})
        assert response.status_code == 400
        assert len((await get(client, "/monitor/sessions/one/data"))["log"]) == 2  # the connection still works


async def test_pages_and_data_report_a_missing_broker(tmp_path: Path) -> None:
    async with client_of(Gateway(Settings(data_dir=tmp_path), Shutdown(1))) as client:
        data = await get(client, "/monitor/data")
        assert {one["state"] for one in data["stages"]} == {"unknown"}
        assert (data["broker"], data["turns"], data["refusal"]) == (None, [], "the broker is not reachable")
        for path in ("/monitor/sessions/one/data", "/monitor/conversations"):
            response = await client.get(path)
            assert (response.status_code, response.json()["error"]["message"]) == (503, "the broker is not reachable")
        assert "Monitor" in (await client.get("/monitor")).text
        assert "Event log" in (await client.get("/monitor/sessions/one")).text


async def test_a_broker_that_stops_is_reported_without_an_error(where: Settings) -> None:
    gateway = Gateway(where, Shutdown(1))
    connected: asyncio.Future[Bus] = asyncio.get_running_loop().create_future()

    async def stay_connected() -> None:
        with suppress(BaseExceptionGroup):
            async with Bus.connect(where, "edge") as bus:
                connected.set_result(bus)
                await asyncio.Event().wait()

    async with asyncio.timeout(HANG_S), client_of(gateway) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(stay_connected())
        gateway.bus = await connected
        with pytest.raises(BrokerGone):
            await gateway.bus.call("SHUTDOWN", "NOSAVE")
        data = await get(client, "/monitor/data")  # the gateway has not noticed yet
        assert ({one["state"] for one in data["stages"]}, data["broker"], data["turns"]) == ({"unknown"}, None, [])
        response = await client.get("/monitor/sessions/one/data")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        response = await client.post("/test-connection")
        assert (response.status_code, response.json()["ok"]) == (503, False)
        assert response.json()["reason"] == "the broker is not reachable"


PATHS = ("/monitor", "/monitor/data", "/monitor/sessions/one", "/monitor/sessions/one/data", "/monitor/conversations")
LOCAL = "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("monitor", "host", "headers", "status"),
    [
        ("auto", "127.0.0.1", {"host": LOCAL}, 200),
        ("auto", "127.8.8.8", {"host": "127.8.8.8"}, 200),
        ("auto", "::1", {"host": "[::1]:8000"}, 200),
        ("auto", "localhost", {"host": "localhost:8000"}, 200),
        ("auto", "0.0.0.0", {"host": LOCAL}, 404),
        ("auto", "192.168.1.5", {"host": LOCAL}, 404),
        ("auto", "::", {"host": LOCAL}, 404),
        ("auto", "localhost.evil.example", {"host": LOCAL}, 404),
        ("auto", "127.0.0.1", {"host": "evil.example"}, 403),  # DNS rebinding: its name resolves to this machine
        ("auto", "127.0.0.1", {"host": "127.0.0.1.evil.example:8000"}, 403),
        ("auto", "127.0.0.1", {"host": ""}, 403),
        ("auto", "127.0.0.1", {"host": "[::1"}, 403),
        ("off", "127.0.0.1", {"host": LOCAL}, 404),
        ("on", "0.0.0.0", {"host": "192.0.2.7:8000"}, 200),
    ],
)
async def test_access(tmp_path: Path, monitor: str, host: str, headers: dict[str, str], status: int) -> None:
    # `open`: beyond this machine nobody has to show a key.
    beyond = not is_loopback(host)
    settings = Settings.model_validate({"monitor": monitor, "host": host, "data_dir": tmp_path, "open": beyond})
    async with client_of(Gateway(settings, Shutdown(1))) as client:
        for path in PATHS:
            response = await client.get(path, headers=headers)
            needs_broker = path.endswith(("one/data", "conversations"))
            expected = 503 if status == 200 and needs_broker else status
            assert response.status_code == expected, path
            assert (status == 200) or "stages" not in response.text


async def test_other_sites_cannot_read_it(where: Settings) -> None:
    async with served(where) as (client, _, bus):
        talk(bus, "one")
        for path in ("/monitor/data", "/monitor/sessions/one/data"):
            response = await client.get(path, headers={"origin": "https://evil.example"})
            assert not [name for name in response.headers if name.startswith("access-control-")]
            assert response.headers["cross-origin-resource-policy"] == "same-origin"
            assert response.headers["cache-control"] == "no-store"
            asked = await client.options(
                path, headers={"origin": "https://evil.example", "access-control-request-method": "GET"}
            )
            assert asked.status_code == 405
            assert not [name for name in asked.headers if name.startswith("access-control-")]
        page = await client.get("/monitor")
        assert "'unsafe-inline'" not in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("[::1]", True), ("", False), ("10.0.0.1", False), ("x", False)],
)
def test_loopback_hosts(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
