"""Who holds a key: its sessions on a real edge with a real broker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from services.edge.access.keys import KeyFile
from services.edge.gateway import gateway as gateway_file
from shared.settings import Settings
from tests.support.broker import embedded_broker
from tests.support.edge import Edge, running_edge
from tests.support.ready_edge import ready_edge
from tests.support.waiting import HANG_S

OPENAI_KEY = "openai-insecure-api-key."


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings.model_copy(update={"keys": "required"})


def socket(edge: Edge, key: str, path: str = "/ws") -> connect:
    url = f"ws://127.0.0.1:{edge.port}{path}"
    return connect(url, proxy=None, additional_headers={"Authorization": f"Bearer {key}"})


async def code_of(connection: ClientConnection) -> int:
    async with asyncio.timeout(HANG_S):
        await connection.wait_closed()
    assert connection.close_code is not None
    return connection.close_code


async def test_keys_open_the_doors_and_revoked_ones_close_them(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_file, "REVOKED_EVERY_S", 0.05)
    keys = KeyFile(where)
    (first, one), (second, _) = keys.create("one"), keys.create("two", sessions=1)
    async with ready_edge(where) as edge:
        for path in ("/ws", "/v1/realtime"):
            assert await edge.handshake(path) == 401
            assert await edge.handshake(path, {"Authorization": "Bearer pk_wrong"}) == 401
            assert await edge.handshake(path, {"Authorization": f"Bearer {first}"}) == 101
            # As a browser does it; only `realtime` is accepted, so the answer does not repeat the key.
            assert await edge.handshake(path, subprotocols=["realtime", f"{OPENAI_KEY}{first}"]) == 101
            assert await edge.handshake(path, subprotocols=["realtime", f"{OPENAI_KEY}{first}x"]) == 401
            assert await edge.handshake(path, subprotocols=["realtime", f"wrong-api-key.{first}"]) == 401
        async with socket(edge, first) as mine, socket(edge, second) as other:
            assert await edge.handshake("/ws", {"Authorization": f"Bearer {second}"}) == 429
            keys.revoke(one.id)
            assert await code_of(mine) == 1008
            assert await edge.handshake("/ws", {"Authorization": f"Bearer {first}"}) == 401
            await other.ping()
            keys.revoke("two")
            assert await code_of(other) == 1008


async def test_handshakes_at_the_same_moment_count_too(where: Settings) -> None:
    secret, _ = KeyFile(where).create("two at once", sessions=2)
    headers, hold = {"Authorization": f"Bearer {secret}"}, asyncio.Event()
    async with ready_edge(where) as edge, socket(edge, secret), asyncio.TaskGroup() as tasks:
        handshakes = [tasks.create_task(edge.handshake("/ws", headers, hold=hold)) for _ in range(5)]
        async with asyncio.timeout(HANG_S):
            while sum(one.done() for one in handshakes) < 4:
                await asyncio.sleep(0.01)
        hold.set()
    assert sorted(one.result() for one in handshakes) == [101, 429, 429, 429, 429]


async def test_a_browser_can_read_why_it_was_refused(where: Settings) -> None:
    secret, _ = KeyFile(where).create("one")
    async with ready_edge(where) as edge:
        offered = ["realtime", f"{OPENAI_KEY}{secret}"]
        for query in ("rate=5", "agent=nobody"):
            url = f"ws://127.0.0.1:{edge.port}/ws?{query}"
            async with connect(url, proxy=None, subprotocols=offered) as refused:  # type: ignore[arg-type]
                assert refused.subprotocol == "realtime"
                assert await code_of(refused) == 1008


async def test_errors_have_the_form_of_openai(where: Settings) -> None:
    KeyFile(where).create("one")
    async with running_edge(where) as edge:
        for headers, code in (({}, "missing_api_key"), ({"Authorization": "Bearer sk-1"}, "invalid_api_key")):
            refused = await edge.client.get("/v1/voices", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", code)


async def test_only_an_operator_sees_the_monitor_and_changes_voices(where: Settings) -> None:
    keys = KeyFile(where)
    (plain, _), (operator, _) = keys.create("plain"), keys.create("operator", operator=True)
    async with running_edge(where) as edge:
        for key, seen, deleted in ((plain, 404, 403), (operator, 200, 503)):
            headers = {"Authorization": f"Bearer {key}"}
            assert (await edge.client.get("/monitor/data", headers=headers)).status_code == seen
            assert (await edge.client.get("/config", headers=headers)).json()["monitor"] is (seen == 200)
            gateway_answer = await edge.client.delete("/v1/voices/x", headers=headers)
            assert gateway_answer.status_code in (deleted, 503)
        assert (await edge.client.get("/monitor/data")).status_code == 401
        assert (await edge.client.get("/monitor")).status_code == 200


async def test_no_key_is_logged(where: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    secret, key = KeyFile(where).create("one")
    async with ready_edge(where) as edge:
        async with socket(edge, secret) as begun:
            await begun.send('{"type": "start_streaming"}')
            await begun.recv()
        assert await edge.handshake("/ws", {"Authorization": f"Bearer {secret}x"}) == 401
        assert await edge.handshake("/ws?rate=16000", subprotocols=["realtime", f"{OPENAI_KEY}{secret}x"]) == 401
    logged = "".join(capsys.readouterr())
    assert f"key {key.id}" in logged
    assert "invalid_api_key" in logged
    assert "error" not in logged.lower().replace("invalid_api_key", "")  # strangers cause no errors
    assert secret not in logged
