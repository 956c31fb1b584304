"""What `parley up` says while a stage waits for its endpoint."""

import asyncio
import io
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from deploy.local import console
from deploy.local.console import LiveConsole
from deploy.local.supervised import Service, ServiceSpec
from deploy.local.waits import read_waits, report_waits
from tests.support import virtual_time
from tests.support.waiting import until

WAITING = {"awaited": "http://here/v1", "reason": "connection refused", "seconds": 12}
TEXT = "http://here/v1: connection refused (12 s)"


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def output(self, name: str, line: str) -> None:
        raise AssertionError(line)


def test_waits_are_read_from_health() -> None:
    stages: dict[str, dict[str, Any]] = {
        "vad": {"ready": 1, "waiting": WAITING},
        "llm": {"ready": 0, "waiting": WAITING},
        "tts": {"ready": 0},
    }
    assert read_waits(stages) == {"llm": TEXT}
    assert read_waits({"llm": {"ready": 0, "waiting": {**WAITING, "seconds": 0}}}) == {
        "llm": "http://here/v1: connection refused"
    }


def test_a_wait_is_reported_at_its_begin_and_end_and_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    notes, waits = Notes(), dict[str, str]()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("deploy.local.waits.time.monotonic", loop.time)
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(report_waits(waits, notes))
            await asyncio.sleep(5)
            for second in range(131):
                waits["llm"] = f"it ({second} s)"
                await asyncio.sleep(1)
            del waits["llm"]
            await asyncio.sleep(1)
            reporting.cancel()

    virtual_time.run(main())
    first, *reminders, last = notes.said
    assert (first, last) == ("llm waits for it (0 s)", "llm waits no longer")
    assert [text.partition(" (")[0] for text in reminders] == ["llm still waits for it"] * 3  # after 30, 60 and 120 s


async def test_the_table_shows_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    services = [Service(ServiceSpec(name, (), {})) for name in ("llm", "tts")]
    services[1].state = "ready"
    out = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=out, width=100, force_terminal=True))
    async with asyncio.TaskGroup() as tasks:
        showing = tasks.create_task(LiveConsole().show(services, {"llm": TEXT}))
        await until(lambda: "tts" in out.getvalue())
        showing.cancel()
    lines = [Text.from_ansi(line).plain.split() for line in out.getvalue().splitlines()]
    assert [line[:2] for line in lines[1:3]] == [["llm", "waiting"], ["tts", "ready"]]
    assert " ".join(lines[3]) == f"llm waits for {TEXT}"
