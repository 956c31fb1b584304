"""A recorded session runs through the present code: the same code decides the same, another setting does not."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.replay.turns import COMMITTED, Turn, compare
from shared.recordings import BadRecording, read_recording
from tests.conftest import system
from tests.pipeline.test_human_speech import recording as clip
from tests.support.caller import calling
from tests.support.system import CLASSIC, System
from tests.support.waiting import HANG_S


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def recording_server(data: Path) -> Iterator[System]:
    """A whole system with the engines of the classic profile that records every session."""
    with system({**CLASSIC, "PARLEY_RECORD": "all", "PARLEY_DATA_DIR": str(data)}) as running:
        yield running


async def replayed(data: Path, session: str, *options: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Run `parley replay`. Returns its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.cli", "replay", session, "--json", *options),
        env={"PYTHONPATH": str(Path.cwd()), "PATH": os.environ["PATH"], **CLASSIC, "PARLEY_DATA_DIR": str(data), **env},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HANG_S):
        out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out or "{}")


@pytest.fixture(scope="module")
def session(recording_server: System, clips: Path, data: Path) -> str:
    """A session of a spoken command and a typed turn."""
    return asyncio.run(converse(recording_server, clips, data))


async def converse(server: System, clips: Path, data: Path) -> str:
    async with calling(server.url, endpoint_ms=700) as caller:
        name = str(caller.of("ready")[0]["session_id"])
        await caller.speak(clip(clips / "cards-001.wav"), silence_s=1.0)
        await caller.until("reply_done", turn=1)
        await caller.send("text_input", text="and this was typed")
        await caller.until("reply_done", turn=2)
    path = data / "recordings" / f"{name}.parley"
    async with asyncio.timeout(HANG_S):
        while not path.exists() or b"SessionEnded" not in path.read_bytes():
            await asyncio.sleep(0.05)
    return name


async def test_the_present_code_decides_as_it_did_and_other_settings_show(
    recording_server: System, session: str, data: Path
) -> None:
    code, found = await replayed(data, session)
    assert (code, found["other_decisions"]) == (0, 0)
    assert [turn["before"]["decision"] for turn in found["turns"]].count(COMMITTED) == 2
    for turn in found["turns"]:
        assert turn["now"]["transcript"] == turn["before"]["transcript"]
    spoken = [turn for turn in found["turns"] if turn["before"]["spoken"]]
    assert "ten of clubs" in spoken[0]["now"]["transcript"]
    assert all(turn["before"]["marks_ms"]["first_audio"] > 0 for turn in spoken)
    code, found = await replayed(data, session, PARLEY_ENDPOINT_ENGINE="tests.support.engines:SoonOver")
    assert (code, found["other_decisions"] > 0) == (1, True)


async def test_a_replay_in_real_time_has_the_turns_and_all_their_times(
    recording_server: System, session: str, data: Path
) -> None:
    code, found = await replayed(data, session, "--real-time", "--url", recording_server.url)
    assert code in (0, 1)  # on a busy machine a turn may end later
    pairs = [turn for turn in found["turns"] if turn["before"] and turn["now"]]
    assert len(pairs) == 2
    assert all(turn["now"]["decision"] == COMMITTED for turn in pairs)
    # On a busy machine the typed turn may interrupt the reply to the spoken one before its audio.
    assert any({"endpoint", "first_audio"} <= turn["now"]["marks_ms"].keys() for turn in pairs)
    assert [turn["now"]["transcript"] != "" for turn in pairs] == [True, False]


async def test_what_cannot_be_replayed_says_so(data: Path) -> None:
    assert (await replayed(data, "0" * 32))[0] == 2
    assert (await replayed(data, "../secret.parley"))[0] == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"\x92\xa2in\xa11",
        b"\x93\xb0parley-recording\x63\xa1s",
        b"\x94\xb0parley-recording\x01\xa1s\xa1p\x94\xa2in\xa3\x01\x00\x00\x01\xc4\x01\x90",
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parley"
    path.write_bytes(content)
    with pytest.raises(BadRecording):
        read_recording(path)


def test_turns_are_paired_by_their_speech() -> None:
    before = [Turn(2.0, decision=COMMITTED), Turn(5.0, decision=COMMITTED)]
    found = compare(before, [Turn(2.01, decision=COMMITTED), Turn(8.0, decision=COMMITTED)])
    assert [(one.before is not None, one.now is not None) for one in found] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    assert [one.same_decision(20.0) for one in found] == [True, False, False]
