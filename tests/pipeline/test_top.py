"""`parley top` and `parley turns`: a real system in a terminal, and what they print without one."""

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pytest

from tests.support.caller import FRAME, calling
from tests.support.program_output import PARLEY
from tests.support.system import System
from tests.support.waiting import HANG_S


def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    env = {**inherited, "COLUMNS": "160", **environ}
    return subprocess.run([*PARLEY, *arguments], env=env, capture_output=True, text=True, timeout=HANG_S, check=False)


@pytest.fixture
async def talked(parley_server: System, speech_pcm: Callable[[str, int], bytes]) -> str:
    """The id of a session in which one turn is over."""
    async with calling(parley_server.url, endpoint_ms=900) as caller:
        session = str(caller.events[0]["session_id"])
        audio = bytes(16_000) + speech_pcm("hello there", 16_000) + bytes(48_000)
        await caller.send_raw(audio[: len(audio) // FRAME * FRAME])
        await caller.until("reply_done")
        async with asyncio.timeout(HANG_S):
            while not json.loads((await asyncio.to_thread(ask, parley_server, session)).stdout or "{}").get("turns"):
                await asyncio.sleep(0.2)
        return session


def ask(server: System, session: str, *more: str) -> subprocess.CompletedProcess[str]:
    return call("turns", session, "--url", server.url, *(more or ("--json",)))


async def test_the_turns_of_a_session_and_the_system_are_printed(parley_server: System, talked: str) -> None:
    def run(*arguments: str) -> str:
        result = call(*arguments, "--url", parley_server.url)
        assert result.returncode == 0, result.stderr
        return result.stdout

    port = parley_server.url.rpartition(":")[2]
    drawn, listed, once, as_json, by_settings = await asyncio.gather(
        asyncio.to_thread(run, "turns", talked),
        asyncio.to_thread(run, "turns"),
        asyncio.to_thread(run, "top", "--once"),
        asyncio.to_thread(run, "top", "--json"),
        asyncio.to_thread(call, "top", "--once", PARLEY_PORT=port),
    )
    lines = drawn.splitlines()
    assert lines[0].startswith("turn 1  first audio sent after ")
    assert "completed, heard 1.0 of 1.0 s" in lines[0]
    assert [line.split("  ")[1] for line in lines[1:3]] == ["Endpoint", "Transcript"]
    assert "▇" in lines[1]
    assert talked in listed

    for words in ("vad", "webrtc", "of 400", "ready", "First sentence", "commands/s", talked[:8]):
        assert words in once, words
    assert by_settings.stdout.split("\n")[2] == once.split("\n")[2]  # the head of the stages
    found = run("turns", "--find", talked[:10])
    assert talked in found
    assert "PARLEY_LOG_CONTENT=true" in found
    assert "no conversation matches" in run("turns", "--find", "no such words")
    data = json.loads(as_json)
    turn = next(row for row in data["turns"] if row["session"] == talked)
    assert turn["slow"]
    assert turn["first_audio_ms"] >= 900


@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals of this kind")
def test_q_ends_it_and_leaves_the_terminal_as_it_was(parley_server: System) -> None:
    ours, its = pty.openpty()
    before = termios.tcgetattr(its)
    command = [*PARLEY, "top", "--url", parley_server.url]
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"}
    with subprocess.Popen(command, env=environ, stdin=its, stdout=its, stderr=its) as process:
        seen, until_s, asked_to_end = b"", time.monotonic() + HANG_S, False
        while process.poll() is None and time.monotonic() < until_s:
            if select.select([ours], [], [], 0.05)[0]:
                seen += os.read(ours, 65_536)
            if b"delay" in seen and not asked_to_end:
                os.write(ours, b"q")
                asked_to_end = True
        process.kill()
    while select.select([ours], [], [], 0)[0]:
        seen += os.read(ours, 65_536)
    assert process.returncode == 0, seen[-2000:]
    assert b"\x1b[?1049l" in seen  # out of the other screen
    assert termios.tcgetattr(its) == before
    os.close(its)
    os.close(ours)


NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["turns", "nobody"], "session 'nobody' is unknown"),
        (["turns", "../data"], "is not the id of a session"),
        (["top", "--once", "--url", NOBODY], f"no Parley answers at {NOBODY}"),
        (["turns", "--url", NOBODY], f"no Parley answers at {NOBODY}"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(parley_server: System, arguments: list[str], message: str) -> None:
    result = call(*arguments, PARLEY_PORT=parley_server.url.rpartition(":")[2])
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert message in result.stderr
