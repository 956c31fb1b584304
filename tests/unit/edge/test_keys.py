"""The file of the keys, and who has to show one."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from services.edge.access import keys
from services.edge.access.access import Access
from services.edge.access.caller import Caller
from services.edge.access.denied import Denied
from services.edge.access.keys import BadKeys, KeyFile
from services.edge.access.mode import Mode, mode_of
from services.edge.access.request import Request
from services.edge.gateway.gateway import Gateway
from shared.agents.folder import load_agents
from shared.settings import BadSettings, Settings
from shared.worker.lifecycle import Shutdown


def settings(tmp_path: Path, **changed: Any) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path, **changed})


def test_the_file_holds_no_key_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = KeyFile(settings(tmp_path))
    secret, key = file.create("shop", days=2, sessions=3, agents=("host",))
    assert secret.startswith("pk_")
    assert len(secret) == len("pk_") + 43  # 256 bits
    assert secret not in file.path.read_text()
    assert secret.removeprefix("pk_") not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.find(secret) == key
    assert (key.name, key.sessions, key.agents, key.operator) == ("shop", 3, ("host",), False)
    assert key.expires_s == key.created_s + 2 * 86_400
    assert file.find(secret[:-1]) is None
    assert {path.name for path in tmp_path.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_a_change_is_noticed_without_a_restart(tmp_path: Path) -> None:
    edge, command = KeyFile(settings(tmp_path)), KeyFile(settings(tmp_path))
    first, key = command.create("one")
    assert edge.find(first) == key
    second, _ = command.create("two")
    assert edge.find(second) is not None
    assert [gone.id for gone in command.revoke(key.id)] == [key.id]
    assert edge.find(first) is None
    assert [gone.name for gone in command.revoke("two")] == ["two"]
    assert command.revoke("two") == []
    assert edge.find(second) is None


def test_a_key_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(settings(tmp_path))
    secret, key = file.create("short", days=1)
    assert file.find(secret) is not None
    monkeypatch.setattr(keys.time, "time", lambda: key.expires_s)
    assert file.find(secret) is None
    assert file.valid() == {}


def test_a_broken_file_stops_the_start_but_no_running_edge(tmp_path: Path) -> None:
    file = KeyFile(settings(tmp_path))
    secret, key = file.create("one")
    assert file.find(secret) == key
    file.path.write_text('{"abc": {"id": 5}}')
    assert file.find(secret) == key
    with pytest.raises(BadKeys, match=r"keys\.json is not a file of keys"):
        KeyFile(settings(tmp_path)).read()
    with pytest.raises(BadSettings):
        mode_of(settings(tmp_path, host="0.0.0.0"))


@pytest.mark.parametrize(
    ("changed", "mode"),
    [
        ({}, Mode.LOCAL),
        ({"host": "::1"}, Mode.LOCAL),
        ({"keys": "required"}, Mode.KEYS),
        ({"host": "0.0.0.0"}, Mode.KEYS),
        ({"host": ""}, Mode.KEYS),
        ({"trusted_proxies": "127.0.0.1"}, Mode.KEYS),
        ({"host": "0.0.0.0", "open": True}, Mode.OPEN),
        ({"open": True}, Mode.OPEN),
    ],
)
def test_who_has_to_show_a_key(tmp_path: Path, changed: dict[str, Any], mode: Mode) -> None:
    if mode is Mode.KEYS:
        with pytest.raises(BadSettings) as refused:
            mode_of(settings(tmp_path, **changed))
        assert "parley keys create" in str(refused.value)
        assert "PARLEY_OPEN=true" in str(refused.value)
        KeyFile(settings(tmp_path)).create("one")
    assert mode_of(settings(tmp_path, **changed)) is mode


def test_an_edge_of_its_own_does_not_start_open_to_everybody(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="PARLEY_OPEN=true"):
        Gateway(settings(tmp_path, host="0.0.0.0"), Shutdown(1))


def test_contradicting_settings_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="unset one"):
        mode_of(settings(tmp_path, open=True, keys="required"))


def request(
    path: str, credential: str | None = None, *, host: str = "127.0.0.1:8000", forwarded: bool = False
) -> Request:
    return Request("GET", path, host, None, False, False, "127.0.0.1", forwarded, credential)


async def status(access: Access, asked: Request) -> int:
    try:
        await access.admit(asked)
    except Denied as denied:
        return denied.status
    return 200


DATA = ("/config", "/v1/voices", "/stats", "/ws", "/v1/realtime", "/monitor/data", "/monitor/sessions/x/data", "/later")
PAGES = ("/", "/web/call/app.js", "/health", "/monitor", "/monitor/sessions/x")


async def test_every_route_but_the_pages_asks_for_a_key(tmp_path: Path) -> None:
    secret, _ = KeyFile(settings(tmp_path)).create("one")
    access = Access(settings(tmp_path, keys="required"))
    for path in PAGES:
        assert await status(access, request(path)) == 200
    for path in DATA:
        assert await status(access, request(path)) == 401
        assert await status(access, request(path, "sk-of-openai")) == 401
        assert await status(access, request(path, f"{secret}x")) == 401
        assert await status(access, request(path, secret)) == 200
        # A page cannot know the key, so it does not matter by which name the server is called.
        assert await status(access, request(path, secret, host="evil.example")) == 200


async def test_on_loopback_only_what_a_proxy_passes_on_needs_a_key(tmp_path: Path) -> None:
    access = Access(settings(tmp_path, hosts="voice.example"))
    for path in DATA:
        assert await status(access, request(path)) == 200
        assert await status(access, request(path, "any-text-of-an-sdk")) == 200
        assert await status(access, request(path, "pk_wrong")) == 401
        assert await status(access, request(path, forwarded=True)) == 401
        assert await status(access, request(path, host="voice.example")) == 401


async def test_an_open_edge_asks_nobody(tmp_path: Path) -> None:
    access = Access(settings(tmp_path, open=True, host="0.0.0.0"))
    assert await status(access, request("/ws", host="192.0.2.1:8000", forwarded=True)) == 200
    assert await status(access, request("/ws", host="evil.example")) == 403


async def test_phone_calls_need_a_signature_where_others_need_a_key(tmp_path: Path) -> None:
    KeyFile(settings(tmp_path)).create("one")
    assert await status(Access(settings(tmp_path, keys="required")), request("/phone/twilio")) == 403
    signed = Access(settings(tmp_path, keys="required", twilio_auth_token="0123"))
    assert await status(signed, request("/phone/twilio")) == 200


async def test_who_is_trusted(tmp_path: Path) -> None:
    file = KeyFile(settings(tmp_path))
    (plain, _), (operator, _) = file.create("plain"), file.create("operator", operator=True)
    access = Access(settings(tmp_path))
    assert (await access.admit(request("/"))).trusted
    assert not (await access.admit(request("/", plain))).trusted
    assert (await access.admit(request("/", operator))).trusted
    assert not (await access.admit(request("/", forwarded=True))).trusted
    with pytest.raises(Denied, match="--operator"):
        (await access.admit(request("/", plain))).check_trusted()


def test_a_key_is_for_its_agents(tmp_path: Path) -> None:
    everybody = load_agents(Settings())
    file = KeyFile(settings(tmp_path))
    _, one = file.create("one", agents=("host",))
    _, gone = file.create("two", agents=("nobody",))
    assert Caller("1.2.3.4").agents(everybody) is everybody
    mine = Caller("1.2.3.4", key=one).agents(everybody)
    assert (list(mine.by_id), mine.default.id) == (["host"], "host")
    with pytest.raises(Denied, match="nobody"):
        Caller("1.2.3.4", key=gone).agents(everybody)
    assert (Caller("1.2.3.4").id, Caller("1.2.3.4", key=one).id) == ("1.2.3.4", f"key {one.id}")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from deploy.cli.__main__ import app
    from shared.settings import load_settings

    monkeypatch.setenv("PARLEY_DATA_DIR", str(tmp_path))
    load_settings.cache_clear()
    run = CliRunner().invoke
    try:
        made = run(app, ["keys", "create", "shop", "--agent", "host", "--days", "7", "--sessions", "2"])
        assert made.exit_code == 0
        secret = made.stdout.strip()
        key = KeyFile(settings(tmp_path)).find(secret)
        assert key is not None
        listed = run(app, ["keys", "list"])
        assert all(part in listed.stdout for part in (key.id, "shop", "expires", "at most 2 sessions", "agents host"))
        assert secret not in listed.stdout
        (shown,) = json.loads(run(app, ["keys", "list", "--json"]).stdout)
        assert (shown["id"], "hash" in shown) == (key.id, False)
        assert run(app, ["keys", "create", "shop", "--agent", "nobody"]).exit_code == 2
        assert run(app, ["keys", "revoke", "shop"]).exit_code == 0
        assert run(app, ["keys", "revoke", "shop"]).exit_code == 1
        assert "No keys yet" in run(app, ["keys", "list"]).stdout
    finally:
        load_settings.cache_clear()
