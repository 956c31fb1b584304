"""What `parley dead` does: reads and changes the dead letters in the broker."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from deploy.local.broker import running_sockets
from deploy.monitor.drawing import new_table
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.bus.dead_letters import ROLES, DeadLetter, Retried, dead_letters, drop, find_letter, retry
from shared.settings import Settings
from shared.worker.lifecycle import first_message

ANSWERS: dict[Retried, str] = {
    "retried": "was put back",
    "gone": "is gone: somebody else has put it back or deleted it",
    "no_job": "is not a job that can be done again, or the job is not kept any longer",
    "session_ended": "was not put back: its session has ended",
}


def list_dead(settings: Settings, stage: str | None, *, as_json: bool) -> int:
    """Print the dead letters of a stage or of all. Returns the exit code."""

    async def body(bus: Bus) -> int:
        letters = await _letters(bus, stage)
        if as_json:
            print(json.dumps([_shown(letter) for letter in letters], indent=2))
        elif not letters:
            print("there are no dead letters")
        else:
            _print_table(letters)
        return 0

    return _run(settings, body)


def show_dead(settings: Settings, name: str, *, as_json: bool) -> int:
    """Print a dead letter with its job. Returns the exit code."""

    async def body(bus: Bus) -> int:
        letter = await find_letter(bus, name)
        if letter is None:
            return _no_such(name)
        facts = {**_shown(letter), "frames": [_frame(frame) for frame in letter.frames], "bytes": len(letter.body)}
        if as_json:
            print(json.dumps(facts, indent=2, default=str))
        else:
            for key, value in facts.items():
                print(f"{key}: {value}")
        return 0

    return _run(settings, body)


def retry_dead(settings: Settings, names: Sequence[str]) -> int:
    """Put jobs back, and print what became of each. Returns the exit code."""

    async def body(bus: Bus) -> int:
        code = 0
        for name in names:
            letter = await find_letter(bus, name)
            if letter is None:
                code = _no_such(name)
                continue
            outcome = await retry(bus, letter)
            print(f"{name} {ANSWERS[outcome]}")
            code = code if outcome == "retried" else 1
        return code

    return _run(settings, body)


def drop_dead(settings: Settings, names: Sequence[str], stage: str | None) -> int:
    """Delete the named dead letters; without names, all of a stage or of all. Returns the exit code."""

    async def body(bus: Bus) -> int:
        if not names:
            dropped = [await drop(bus, letter) for letter in await _letters(bus, stage)]
            print(f"{sum(dropped)} dead letters were deleted")
            return 0
        code = 0
        for name in names:
            letter = await find_letter(bus, name)
            if letter is not None and await drop(bus, letter):
                print(f"{name} was deleted")
            else:
                code = _no_such(name)
        return code

    return _run(settings, body)


async def _letters(bus: Bus, stage: str | None) -> list[DeadLetter]:
    found = [letter for role in ROLES if stage in (None, role) for letter in await dead_letters(bus, role)]
    return sorted(found, key=lambda letter: letter.at_ms)


def _run(settings: Settings, body: Callable[[Bus], Awaitable[int]]) -> int:
    """Connect to the broker of the settings, or else to the only one that `parley up` runs on this machine."""
    if settings.redis_url is None:
        sockets = running_sockets()
        if len(sockets) != 1:
            print(f"{len(sockets)} brokers run on this machine: set PARLEY_REDIS_URL", file=sys.stderr)
            return 1
        settings = settings.model_copy(update={"redis_url": SecretStr(f"unix://{sockets[0]}")})

    async def connected() -> int:
        async with Bus.connect(settings, "dead") as bus:
            return await body(bus)

    try:
        return asyncio.run(connected())
    except* (BrokerGone, BrokerRefused) as group:
        print(first_message(group), file=sys.stderr)
    return 1


def _no_such(name: str) -> int:
    print(f"there is no dead letter {name}: `parley dead list` lists them", file=sys.stderr)
    return 1


def _shown(letter: DeadLetter) -> dict[str, Any]:
    """The letter without what was said."""
    return {
        "name": letter.name,
        "at": _local(letter).isoformat(timespec="seconds"),
        "session": letter.session,
        "stream": letter.stream,
        "entry": letter.entry_id,
        "error": letter.error,
        "job": type(letter.job).__name__ if letter.job is not None else None,
    }


def _frame(frame: Any) -> dict[str, Any]:
    return {"type": type(frame).__name__, **asdict(frame)}


def _print_table(letters: Sequence[DeadLetter]) -> None:
    table = new_table("letter", "given up", "session", "job", "error")
    for letter in letters:
        job = type(letter.job).__name__ if letter.job is not None else "–"
        table.add_row(letter.name, f"{_local(letter):%d.%m. %H:%M:%S}", letter.session[:8], job, letter.error)
    Console(highlight=False, markup=False).print(table)


def _local(letter: DeadLetter) -> datetime:
    return datetime.fromtimestamp(letter.at_ms / 1000).astimezone()
