"""`parley turns`: the time that each stage took in each turn of a conversation."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from rich.console import Console
from rich.text import Text

from deploy.monitor.client import NotFound, RequestFailed, exit_code_of, fetch
from deploy.monitor.drawing import new_table, waterfall


def run_turns(url: str, session: str | None, *, as_json: bool) -> int:
    """Print the turns of a session, or a list of the latest turns of all sessions. Returns the exit code."""
    return exit_code_of(url, lambda: _one(url, session, as_json=as_json) if session else _all(url, as_json=as_json))


def run_find(url: str, words: str, *, as_json: bool) -> int:
    """Print the past conversations in which this was said, or whose id begins with it. Returns the exit code."""
    return exit_code_of(url, lambda: _find(url, words, as_json=as_json))


def _find(url: str, words: str, *, as_json: bool) -> None:
    found = fetch(url, f"/conversations?{urlencode({'find': words})}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False, markup=False)
    table = new_table("session", "last turn", ">turns", ">slow", ">interrupted", ">failed", "said")
    for one in found["conversations"]:
        figures = [str(one[name]) for name in ("turns", "slow", "interrupted", "failed")]
        table.add_row(one["id"], f"{_local(one['last_ms']):%d.%m. %H:%M:%S}", *figures, one["said"])
    if found["conversations"]:
        console.print(table)
    else:
        console.print(f"no conversation matches, among {found['searched_turns']} turns")
    if found["masked"]:
        console.print("what was said is not kept: PARLEY_LOG_CONTENT=true keeps it", style="dim")


def _local(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000).astimezone()


def _one(url: str, session: str, *, as_json: bool) -> None:
    if session in (".", "..") or "/" in session:
        raise RequestFailed(f"{session!r} is not the id of a session: `parley turns` lists the ids")
    try:
        turns = _turns_of(url, session)
    except NotFound:
        session = _whole_id(url, session)
        turns = _turns_of(url, session)
    if as_json:
        print(json.dumps({"session": session, "turns": turns}, indent=2))
        return
    console = Console(highlight=False, markup=False)
    if not turns:
        console.print("no finished turn in this conversation yet")
    for turn in turns:
        console.print(heading(turn), soft_wrap=True)
        for who, text in (("person", turn.get("said")), ("parley", turn.get("reply"))):
            if text:
                console.print(f"  {who}: {text}", soft_wrap=True)
        for line in waterfall(turn["segments"]):
            console.print(Text(f"  {line}", "dim"))


def _turns_of(url: str, session: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fetch(url, f"/sessions/{quote(session, safe='')}/data")["turns"]
    return found


def _whole_id(url: str, beginning: str) -> str:
    """Complete an id: `parley top` and the page show only the beginning. Returns it unchanged if it fits none or several."""
    data = fetch(url, "/data")
    known = {turn["session"] for turn in data["turns"]} | {one["id"] for one in data["sessions"]["newest"]}
    found = [session for session in known if session.startswith(beginning)]
    return found[0] if len(found) == 1 else beginning


def heading(turn: Mapping[str, Any]) -> Text:
    """One line about a turn: number, delay, outcome, audio played, trace."""
    heard = f"heard {turn['heard_ms'] / 1000:.1f} of {turn['reply_ms'] / 1000:.1f} s"
    facts = [
        ": ".join(filter(None, (turn["outcome"], turn["reason"]))),
        heard,
        f"trace {turn['trace']}" if turn["trace"] else "",
    ]
    return Text.assemble(
        (f"turn {turn['turn']}", "bold"),
        "  ",
        (first_audio(turn), "red" if turn["slow"] else ""),
        "  ",
        (", ".join(filter(None, facts)), "dim"),
    )


def first_audio(turn: Mapping[str, Any]) -> str:
    """Time from the end of speech to the sending of the first audio, as text."""
    waited_ms = turn["first_audio_ms"]
    return "no audio" if waited_ms is None else f"first audio sent after {waited_ms:.0f} ms"


def _all(url: str, *, as_json: bool) -> None:
    data = fetch(url, "/data")
    turns = data["turns"]
    if as_json:
        print(json.dumps(turns, indent=2))
        return
    if not turns:
        print("no finished turn yet")
        return
    table = new_table("session", ">turn", "at", ">first audio sent", "outcome")
    for turn in turns:
        at = _local(turn["at_ms"])
        waited = first_audio(turn).removeprefix("first audio sent after ")
        style = "red" if turn["slow"] else ""
        table.add_row(turn["session"], str(turn["turn"]), f"{at:%H:%M:%S}", Text(waited, style), turn["outcome"])
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print("Details of a session: parley turns SESSION", style="dim")
