"""`parley replay`: runs a recorded session through the present code, and says what differs from what happened."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.client.conversation import TalkFailed
from deploy.replay.real_time import began_ms, replay_in_real_time
from deploy.replay.turns import COMMITTED, MARKS, Difference, Turn, as_json, compare, turns_of
from deploy.replay.virtual import replay_in_virtual_time
from shared.engines.registry import UnknownEngine
from shared.recordings import BadRecording, Recording, read_recording, recording_path, recordings_folder
from shared.settings import Settings

VIRTUAL_MS, REAL_MS = 20.0, 300.0
"""Smaller differences do not count as another decision: one window of the detector; the jitter of a machine."""


def run_replay(settings: Settings, session: str, url: str, *, real_time: bool, as_json_: bool) -> int:
    """Replay and print. Returns 0: the same decisions, 1: others, 2: it cannot be replayed."""
    try:
        recording = read_recording(_path(settings, session))
        before = _happened(recording, real_time=real_time)
        now = asyncio.run(_replay(recording, settings, url, real_time=real_time))
    except (BadRecording, UnknownEngine, TalkFailed) as error:
        print(error, file=sys.stderr)
        return 2
    found = compare(before, now)
    tolerance_ms = REAL_MS if real_time else VIRTUAL_MS
    others = sum(not one.same_decision(tolerance_ms) for one in found)
    if as_json_:
        print(json.dumps({"other_decisions": others, "turns": [as_json(one) for one in found]}, indent=2))
    else:
        _print(found, tolerance_ms, others)
    return int(others > 0)


def _path(settings: Settings, session: str) -> Path:
    """The file of a session, given as its id or as a file."""
    return Path(session) if "/" in session else recording_path(recordings_folder(settings), session)


def _happened(recording: Recording, *, real_time: bool) -> list[Turn]:
    log = ((entry.id, entry.frames) for entry in recording.log)
    if not real_time:
        return turns_of(log, timed=True)
    # A client does not learn what was discarded.
    return [turn for turn in turns_of(log, timed=True, began_ms=began_ms(recording)) if turn.decision == COMMITTED]


async def _replay(recording: Recording, settings: Settings, url: str, *, real_time: bool) -> list[Turn]:
    if real_time:
        return await replay_in_real_time(recording, url)
    return turns_of(await replay_in_virtual_time(recording, settings), timed=False)


def _print(found: Sequence[Difference], tolerance_ms: float, others: int) -> None:
    table = Table("end of speech", "decision", "transcript", *(f"{mark} ms" for mark in MARKS), box=None)
    for one in found:
        known = one.now or one.before or Turn()
        changed = not one.same_decision(tolerance_ms)
        table.add_row(
            f"{known.end_s:.2f} s" if known.spoken else "(typed)",
            _change(*(turn.decision if turn else "no turn" for turn in (one.before, one.now))),
            _change(*(turn.transcript if turn else "" for turn in (one.before, one.now))),
            *(_change(*(_ms(turn, mark) for turn in (one.before, one.now))) for mark in MARKS),
            style="bold" if changed else "",
        )
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(
        f"{len(found)} turns, {others} with another decision" if others else f"{len(found)} turns, all as before"
    )


def _ms(turn: Turn | None, mark: str) -> str:
    return f"{turn.marks[mark]:.0f}" if turn is not None and mark in turn.marks else "–"


def _change(before: str, now: str) -> str:
    """Both values; one where they are equal."""
    return before if before == now else f"{before or '(none)'} → {now or '(none)'}"
