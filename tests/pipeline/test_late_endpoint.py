"""`parley up` with a model server that answers late, never, wrongly, or no longer."""

import asyncio
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.openai_server import error, free_port_url, heard, openai_server, said
from tests.support.program_output import PARLEY, Output, parley_up
from tests.support.system import SCRIPTED
from tests.support.waiting import HANG_S


async def printed(output: Output, pattern: str) -> str:
    return (await asyncio.to_thread(output.until, pattern))[0]


async def health(page: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"{page}/health")


async def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [*PARLEY, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.fixture
def url() -> str:
    """Where no server listens, but one may begin to."""
    return free_port_url()


@pytest.fixture
def environ(tmp_path: Path, url: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    own = {"TMPDIR": str(tmp_path), "PARLEY_PORT": "0", "PARLEY_LOG_FORMAT": "json", "PARLEY_LLM_URL": url}
    return {**inherited, **SCRIPTED, "PARLEY_LLM_ENGINE": "openai", **own}


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


async def test_a_late_server_is_waited_for_and_a_lost_one_fails_only_its_turns(
    environ: dict[str, str], url: str, speech_wav: Callable[[str, float, float], Path], tmp_path: Path
) -> None:
    reply = str(tmp_path / "reply.wav")
    talk = ("talk", str(speech_wav("hello there", 0.5, 1.5)), "--json", "--out", reply, "--url")
    with parley_up(environ) as (process, output):
        await printed(output, rf"llm waits for {url}: connection refused")
        assert process.poll() is None
        async with openai_server(port_of(url)) as server:
            server.replies = deque([said("Here I am.")])
            page = (await printed(output, r"open http://127\.0\.0\.1:\d+")).removeprefix("open ")
            await printed(output, r"llm waits no longer\n")
            heard = await run(environ, *talk, page)
            assert heard.returncode == 0, heard.stderr
            assert "Here I am." in heard.stdout
        lost = await run(environ, *talk, page)
        assert "Here I am." not in lost.stdout
        assert (await health(page)).status_code == 200
        async with openai_server(port_of(url)) as server:
            server.replies = deque([said("Here again.")])
            heard = await run(environ, *talk, page)
            assert heard.returncode == 0, heard.stderr
            assert "Here again." in heard.stdout
        assert output.text.count("restarting") == 0


async def test_health_and_the_refusal_say_what_is_waited_for(environ: dict[str, str], url: str) -> None:
    port = port_of(free_port_url())
    with parley_up({**environ, "PARLEY_PORT": str(port)}) as (process, output):
        await printed(output, rf"llm waits for {url}: connection refused")
        answer = await health(f"http://127.0.0.1:{port}")
        waiting = answer.json()["stages"]["llm"]["waiting"]
        assert answer.status_code == 503
        assert answer.json()["stages"]["llm"]["ready"] == 0
        assert (waiting["awaited"], waiting["reason"]) == (url, "connection refused")
        assert waiting["seconds"] >= 0
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, HANG_S) == 0
        await printed(output, r"stopped\n$")
    assert "did not stop within" not in output.text


async def test_a_late_server_that_refuses_the_key_ends_the_start_with_one_message(
    environ: dict[str, str], url: str
) -> None:
    with parley_up(environ) as (process, output):
        await printed(output, rf"llm waits for {url}")
        async with openai_server(port_of(url)) as server:
            server.models = error(401, "Incorrect API key")
            assert await asyncio.to_thread(process.wait, HANG_S) == 2
        output.close()
    refusal = f"{url}: 401 Incorrect API key. Set PARLEY_LLM_KEY to a key that this server accepts."
    assert output.text.count(refusal) == 1
    assert "llm cannot start: see its message above" in output.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"PARLEY_LLM_URL": "nonsense"}, "'nonsense' is not a valid URL"),
        ({"PARLEY_LLM_MODEL": "huge"}, "no model 'huge': .* has tiny. Set PARLEY_LLM_MODEL to one of them."),
        ({"PARLEY_LLM_MODEL": "tiny", "PATHS": "none"}, r"404 .*Is PARLEY_LLM_URL complete \(http://HOST:PORT/v1\)\?"),
    ],
    ids=["malformed", "model", "paths"],
)
async def test_what_waiting_does_not_change_ends_the_worker_with_one_line(
    environ: dict[str, str], url: str, given: dict[str, str], says: str
) -> None:
    async with openai_server(port_of(url)) as server:
        if "PATHS" in given:
            server.models = server.warm_up = None
        worker = await run({**environ, **given}, "llm")
    assert worker.returncode == 2
    assert re.fullmatch(f".*{says}.*\n", worker.stderr.splitlines(keepends=True)[-1])
    assert "Traceback" not in worker.stderr
    assert "engine waits" not in worker.stderr


async def test_every_stage_can_be_an_endpoint(
    environ: dict[str, str], speech_wav: Callable[[str, float, float], Path], tmp_path: Path
) -> None:
    async with openai_server() as server:
        server.models = {"data": [{"id": "whisper"}, {"id": "chat"}]}
        server.transcripts, server.replies = deque([heard("what is", " new")]), deque([said("Nothing at all.")])
        urls = {f"PARLEY_{stage}_URL": server.url for stage in ("ASR", "LLM", "TTS")}
        engines = {f"PARLEY_{stage}_ENGINE": "" for stage in ("ASR", "LLM", "TTS")}  # the URLs choose them
        with parley_up({**environ, **engines, **urls}) as (_, output):
            page = (await printed(output, r"open http://127\.0\.0\.1:\d+")).removeprefix("open ")
            stages = (await health(page)).json()["stages"]
            assert {stages[name]["engine"] for name in ("asr", "llm", "tts")} == {"openai"}
            reply = tmp_path / "reply.wav"
            speech = str(speech_wav("hello there", 0.5, 1.5))
            talk = await run(environ, "talk", speech, "--url", page, "--out", str(reply), "--json")
        assert talk.returncode == 0, talk.stderr
        assert "what is new" in talk.stdout
        assert "Nothing at all." in talk.stdout
        assert reply.stat().st_size > 1_000
        asked = server.requests("/v1/chat/completions")[-1]
        assert (asked["model"], asked["messages"][-1]["content"]) == ("chat", "what is new")
        assert server.requests("/v1/audio/speech")[-1]["input"] == "Nothing at all."
