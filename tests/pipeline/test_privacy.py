"""What is stored of a conversation: nothing by default, a recording where it is wanted, and `parley forget` leaves nothing."""

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from deploy.local.forget import run_forget
from shared.bus.bus import Bus
from shared.bus.forget import delete_session, find_session
from shared.protocol.frames import ReplySentence, SessionStarted, codec
from shared.protocol.session import SessionSettings
from shared.protocol.streams import SESSION_TTL_S
from shared.protocol.turn_record import TurnRecord
from shared.recordings import delete_old, read_recording
from tests.support.broker import embedded_broker
from tests.support.caller import calling
from tests.support.system import SCRIPTED, System, running_system, settings_of
from tests.support.waiting import HANG_S

SECRET = "my account number is 4711"
SESSION, OTHER = "ab" * 16, "cd" * 16


async def stored(client: "redis.Redis[Any]") -> dict[bytes, tuple[bytes, int]]:
    """Every key of the broker, with its content as one piece and its time to live in seconds (-1: for ever)."""
    found = {}
    for key in await client.keys("*"):
        kind = await client.type(key)
        match kind:
            case b"stream":
                content = b"".join(b"".join(fields.values()) for _, fields in await client.xrange(key))
            case b"hash":
                content = b"".join((await client.hgetall(key)).values())
            case b"zset":
                content = b"".join(await client.zrange(key, 0, -1))
            case _:
                content = await client.get(key) or b""
        found[key] = (content, await client.ttl(key))
    return found


async def test_by_default_what_was_said_expires_with_its_session(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_system({**SCRIPTED, "PARLEY_DATA_DIR": str(data)}) as system:
        async with calling(system.url) as caller:
            session = caller.of("ready")[0]["session_id"]
            await caller.speak(bytes(640) + b"\x00\x20" * 16_000, silence_s=0.7)
            await caller.send("text_input", text=SECRET)
            await caller.until("reply_done", status="completed")
            async with redis.Redis.from_url(system.broker_url) as client:
                ttls_s = [await client.ttl(key) for key in await client.keys(f"*{session}")]
                assert len(ttls_s) >= 4
                assert all(0 < ttl_s <= SESSION_TTL_S for ttl_s in ttls_s)  # if all processes were killed now
        async with redis.Redis.from_url(system.broker_url) as client:
            keys = {key: found for key, found in (await stored(client)).items() if SECRET.encode() in found[0]}
            assert {key.decode().rpartition(":")[2] for key in keys} == {session}
            assert all(0 < ttl_s <= SESSION_TTL_S for _, ttl_s in keys.values())
    assert not any(SECRET in line for line in system.journal.lines)
    assert not [path for path in data.rglob("*") if path.is_file()]


async def forgotten(system: System, session: str, data: Path) -> tuple[int, dict[str, Any]]:
    """Run `parley forget`. Returns its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.cli", "forget", session, "--json"),
        env={"PARLEY_REDIS_URL": system.broker_url, "PARLEY_DATA_DIR": str(data), "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HANG_S):
        out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out)


async def test_a_recorded_session_is_on_disk_for_its_owner_alone_and_is_forgotten_with_all_else(
    tmp_path: Path, speech_pcm: Callable[[str, int], bytes]
) -> None:
    data = tmp_path / "data"
    wanted = {"PARLEY_DATA_DIR": str(data), "PARLEY_RECORD": "asked", "PARLEY_LOG_CONTENT": "true"}
    async with running_system({**SCRIPTED, **wanted}) as system:
        async with calling(system.url) as silent, calling(system.url, may_record=True) as caller:
            session = caller.of("ready")[0]["session_id"]
            await caller.speak(speech_pcm("hello there how are you today", 16_000), silence_s=0.7)
            await caller.until("reply_done", turn=1, status="completed")
            await caller.send("text_input", text=SECRET)
            await caller.until("reply_done", turn=2, status="completed")
            await silent.send("text_input", text="not to be recorded")
            await silent.until("reply_done", status="completed")
        (path,) = await some_files(data / "recordings", b"SessionEnded")
        assert path.stem == session
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        recording = read_recording(path)
        assert recording.session == session
        kinds = {type(frame).__name__ for entry in (*recording.input, *recording.log) for frame in entry.frames}
        assert {"SessionStarted", "AudioChunk", "TextTyped", "TurnCommitted", "VoiceDone", "SessionEnded"} <= kinds
        code, report = await forgotten(system, session, data)
        assert (code, set(report["left"].values())) == (0, {0})
        assert report["deleted"]["recordings"] == 1
        assert report["deleted"]["turn_records"] == 2
        async with redis.Redis.from_url(system.broker_url) as client:
            found = await stored(client)
            assert not [key for key, (content, _) in found.items() if session.encode() in key + content]
            assert [key for key, (content, _) in found.items() if b"not to be recorded" in content]


async def some_files(folder: Path, end: bytes) -> list[Path]:
    """The files of a folder, once one of them contains this."""
    async with asyncio.timeout(HANG_S):
        while not any(end in path.read_bytes() for path in folder.glob("*")):
            await asyncio.sleep(0.05)
    return list(folder.glob("*"))


async def test_every_place_of_a_session_is_found_and_emptied_and_no_other(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path) as settings, Bus.connect(settings, "edge") as bus:
        for session in (SESSION, OTHER):
            channel = bus.channel("edge", session)
            bus.save_settings(session, SessionSettings(instructions=SECRET))
            bus.save_history(session, ())
            started = SessionStarted(session, SessionSettings())
            bus.request_listener(started)
            channel.publish(started)
            sentence = ReplySentence(session, 1, 0, 0, SECRET, "", 1.0, "en")
            channel.publish(sentence)
            body = codec.entry([codec.encode(sentence)])
            bus.dead_letter("tts", bus.keys.jobs("tts"), "1-1", body, "ValueError: it failed")
            bus.dead_letter("edge", bus.keys.of_session(session)[0], "1-2", b"garbage", "not MessagePack")
            bus.keep_turn(TurnRecord(session, 1, 1, "stream", "cascade", "completed", 0, 0, 0, "", said=SECRET))
        assert (await find_session(bus, SESSION)).total == 3 + 2 + 4 + 1
        assert (await delete_session(bus, SESSION)).total == 3 + 2 + 4 + 1
        assert (await find_session(bus, SESSION)).total == 0
        assert (await find_session(bus, OTHER)).total == 3 + 2 + 4 + 1


async def test_dead_letters_outlive_what_was_said_in_them(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path) as settings:
        for content, ttl_s in ((False, SESSION_TTL_S), (True, 3600 * settings.keep_turns_h)):
            chosen = settings.model_copy(update={"log_content": content})
            async with Bus.connect(chosen, "tts") as bus:
                body = codec.entry([codec.encode(ReplySentence(SESSION, 1, 0, 0, SECRET, "", 1.0, "en"))])
                bus.dead_letter("tts", bus.keys.jobs("tts"), "1-1", body, "ValueError: it failed")
                dead, apart = bus.keys.dead("tts"), bus.keys.dead_content("tts")
                (_, facts), *_ = await bus.call(b"XRANGE", dead, b"-", b"+")
                assert dict(zip(facts[::2], facts[1::2], strict=True))[b"session"] == SESSION.encode()
                assert SECRET.encode() not in b"".join(facts)
                assert SECRET.encode() in (await bus.call(b"XRANGE", apart, b"-", b"+"))[-1][1][-1]
                assert 0 < await bus.call(b"TTL", apart) <= ttl_s
                assert 0 < await bus.call(b"TTL", dead) <= 3600 * settings.keep_turns_h


def test_old_recordings_are_deleted(tmp_path: Path) -> None:
    for name, age_h in (("old", 25), ("new", 23)):
        path = tmp_path / f"{name}.parley"
        path.write_bytes(b"")
        os.utime(path, (0, time.time() - 3600 * age_h))
    assert delete_old(tmp_path, 24) == 1
    assert [path.stem for path in tmp_path.iterdir()] == ["new"]


def test_what_is_not_the_id_of_a_session_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_forget(settings_of({}), "../../etc/passwd", as_json=False) == 2
    assert "is not the id of a session" in capsys.readouterr().err
