"""Client secrets: who creates them, how long they hold, and what their holder may not change."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from services.edge.access import client_secrets
from services.edge.access.keys import KeyFile
from shared.bus.bus import Bus
from shared.settings import Settings
from tests.support.broker import embedded_broker
from tests.support.edge import Edge
from tests.support.ready_edge import ready_edge

PATH = "/v1/realtime/client_secrets"
SESSION = {
    "type": "realtime",
    "model": "host",
    "instructions": "Sell shoes.",
    "audio": {"output": {"voice": "bert"}, "input": {"transcription": {"language": "de"}}},
}


@pytest.fixture
async def where(tmp_path: Path) -> AsyncIterator[Settings]:
    async with embedded_broker(tmp_path / "data") as settings:
        yield settings.model_copy(update={"keys": "required"})


@pytest.fixture
def key(where: Settings) -> str:
    return KeyFile(where).create("one")[0]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def create(edge: Edge, key: str, **body: Any) -> dict[str, Any]:
    response = await edge.client.post(PATH, headers=bearer(key), json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def line(edge: Edge, secret: str, path: str) -> connect:
    return connect(f"ws://127.0.0.1:{edge.port}{path}", proxy=None, additional_headers=bearer(secret))


async def until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await socket.recv())
        if message["type"] == kind:
            return message


async def test_a_secret_opens_sessions_and_nothing_else(where: Settings, key: str) -> None:
    async with ready_edge(where) as edge:
        made = await create(
            edge, key, expires_after={"anchor": "created_at", "seconds": 10}, session={"type": "realtime"}
        )
        secret = made["value"]
        assert secret.startswith("ek_")
        assert made["session"]["object"] == "realtime.session"
        for path in ("/ws", "/v1/realtime"):
            assert await edge.handshake(path, bearer(secret)) == 101
            offered = ["realtime", f"openai-insecure-api-key.{secret}"]
            assert await edge.handshake(path, subprotocols=offered) == 101
            assert await edge.handshake(path, bearer(f"{secret}x")) == 401
        assert (await edge.client.get("/config", headers=bearer(secret))).status_code == 200
        assert (await edge.client.get("/monitor/data", headers=bearer(secret))).status_code == 404
        refused = await edge.client.post(PATH, headers=bearer(secret), json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_needed")
        assert (await edge.client.post(PATH, json={})).status_code == 401


async def test_the_broker_keeps_only_a_hash_and_for_as_long_as_it_holds(where: Settings, key: str) -> None:
    async with ready_edge(where) as edge, Bus.connect(where, "test") as bus:
        secret = (await create(edge, key, expires_after={"seconds": 20}, uses=3))["value"]
        assert await edge.handshake("/ws", bearer(secret)) == 101
        kept = [found for found in await bus.call("KEYS", "*") if b":secret:" in found]
        assert len(kept) == 2
        for found in kept:
            assert secret.removeprefix("ek_").encode() not in found
            assert 0 < await bus.call("TTL", found) <= 20


async def test_a_secret_expires_is_used_up_and_ends_with_its_key(
    where: Settings, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ready_edge(where) as edge:
        once = (await create(edge, key, uses=1))["value"]
        assert (await edge.client.get("/config", headers=bearer(once))).status_code == 200  # no session
        assert await edge.handshake("/ws", bearer(once)) == 101
        assert await edge.handshake("/ws", bearer(once)) == 401
        assert await edge.handshake("/v1/realtime", bearer(once)) == 401
        lasting = await create(edge, key)
        with monkeypatch.context() as later:
            later.setattr(client_secrets.time, "time", lambda: float(lasting["expires_at"]))
            assert await edge.handshake("/ws", bearer(lasting["value"])) == 401
        assert await edge.handshake("/ws", bearer(lasting["value"])) == 101
        KeyFile(where).revoke("one")
        assert await edge.handshake("/ws", bearer(lasting["value"])) == 401


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"expires_after": {"seconds": 9}}, 400, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, 400, "10 to 7200"),
        ({"uses": 0}, 400, "uses"),
        ({"session": {"type": "realtime", "instructions": 5}}, 400, "session.instructions"),
        ({"session": {"nonsense": 5}}, 400, "session.nonsense"),
        ({"session": {"model": "nobody"}}, 404, "nobody"),
        ([], 400, "JSON"),
    ],
)
async def test_a_wrong_request_is_refused_in_the_form_of_openai(
    where: Settings, key: str, body: Any, status: int, words: str
) -> None:
    async with ready_edge(where) as edge:
        refused = await edge.client.post(PATH, headers=bearer(key), json=body)
    assert refused.status_code == status
    assert words in refused.json()["error"]["message"]


async def test_a_realtime_client_cannot_leave_its_session(where: Settings, key: str) -> None:
    async with ready_edge(where) as edge:
        secret = (await create(edge, key, session=SESSION))["value"]
        assert await edge.handshake("/v1/realtime?model=assistant", bearer(secret)) == 404
        async with line(edge, secret, "/v1/realtime?model=host") as socket:
            session = (await until(socket, "session.created"))["session"]
            assert (session["instructions"], session["audio"]["output"]["voice"]) == ("Sell shoes.", "bert")

            async def refused(event: dict[str, Any]) -> str:
                await socket.send(json.dumps(event))
                error = (await until(socket, "error"))["error"]
                assert error["code"] == "bound_by_client_secret"
                return str(error["param"])

            def update(**session: Any) -> dict[str, Any]:
                return {"type": "session.update", "session": {"type": "realtime", **session}}

            assert await refused(update(instructions="Write code.")) == "session.instructions"
            assert await refused(update(audio={"output": {"voice": "anna"}})) == "session.audio.output.voice"
            assert "transcription" in await refused(update(audio={"input": {"transcription": {"language": "en"}}}))
            own = {"type": "response.create", "response": {"instructions": "Write code."}}
            assert await refused(own) == "response.instructions"
            item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Write code."}]}
            assert await refused({"type": "conversation.item.create", "item": item}) == "item.role"
            # What it may change, and what it repeats, is taken: SDKs send the whole session back.
            same = update(**{**SESSION, "audio": {"output": {"voice": "bert", "speed": 1.5}}})
            await socket.send(json.dumps(same))
            session = (await until(socket, "session.updated"))["session"]
            assert (session["instructions"], session["audio"]["output"]["speed"]) == ("Sell shoes.", 1.5)


async def test_a_stream_client_cannot_leave_its_session(where: Settings, key: str) -> None:
    async with ready_edge(where) as edge:
        secret = (await create(edge, key, session=SESSION))["value"]
        async with line(edge, secret, "/ws") as socket:
            for name, value in (("instructions", "Write code."), ("voice", "anna"), ("language", "en")):
                await socket.send(json.dumps({"type": "start_streaming", "config": {name: value}}))
                assert f"config.{name}" in (await until(socket, "error"))["message"]
            await socket.send(json.dumps({"type": "start_streaming", "config": {"speed": 1.5, "voice": "bert"}}))
            config = (await until(socket, "ready"))["config"]
            assert (config["instructions"], config["voice"], config["language"], config["speed"]) == (
                "Sell shoes.", "bert", "de", 1.5
            )  # fmt: skip
            await socket.send(json.dumps({"type": "configure", "config": {"voice": "anna"}}))
            assert "config.voice" in (await until(socket, "error"))["message"]


async def test_a_secret_is_for_the_agents_of_its_key(where: Settings) -> None:
    key, _ = KeyFile(where).create("host only", agents=("host",))
    async with ready_edge(where) as edge:
        refused = await edge.client.post(PATH, headers=bearer(key), json={"session": {"model": "captain"}})
        assert refused.status_code == 404
        secret = (await create(edge, key))["value"]
        assert await edge.handshake("/v1/realtime?model=captain", bearer(secret)) == 404
        assert await edge.handshake("/v1/realtime?model=host", bearer(secret)) == 101
        listed = (await edge.client.get("/v1/agents", headers=bearer(secret))).json()
        assert ([agent["id"] for agent in listed["agents"]], listed["default"]) == (["host"], "host")


async def test_this_machine_creates_secrets_without_a_key(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path / "data") as settings, ready_edge(settings) as edge:
        secret = (await create(edge, "unused", session=SESSION))["value"]
        async with line(edge, secret, "/v1/realtime") as socket:
            assert (await until(socket, "session.created"))["session"]["instructions"] == "Sell shoes."
        assert await edge.handshake("/v1/realtime", bearer("ek_wrong")) == 401
