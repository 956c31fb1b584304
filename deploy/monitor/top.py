"""`parley top`: stages, conversations and turns of a running system, live in a terminal."""

import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.monitor.client import RequestFailed, exit_code_of, fetch
from deploy.monitor.drawing import bar, label, new_table

REFRESH_S = 1.0
TURNS, SESSIONS, CELLS = 12, 6, 32
"""Turns and sessions that are listed, and columns of a turn's bar."""
STATES = {
    "ready": ("ready", "green"), "full": ("fully used", "yellow"), "behind": ("falling behind", "yellow"),
    "missing": ("no worker", "red"), "unknown": ("unknown", "dim"),
}  # fmt: skip
COLOURS = {
    "endpoint": "bright_black", "transcript": "cyan", "first_token": "blue", "first_sentence": "magenta",
    "first_audio": "bright_magenta", "release": "yellow", "played": "green",
}  # fmt: skip

SILENCE = "░"

Snapshot = Mapping[str, Any]


def run_top(url: str, *, once: bool, as_json: bool) -> int:
    """Show the snapshot once, or live until q or Ctrl-C. Returns the exit code."""
    if as_json:
        return exit_code_of(url, lambda: print(json.dumps(fetch(url, "/data"), indent=2)))
    console = Console(highlight=False, markup=False)
    if once or not console.is_terminal:
        return exit_code_of(url, lambda: console.print(picture(fetch(url, "/data"))))
    return exit_code_of(url, lambda: _live(url, console))


def _live(url: str, console: Console) -> None:
    shown = picture(fetch(url, "/data"))  # an error of the first request ends the command
    with _keys() as pressed, Live(shown, console=console, auto_refresh=False, screen=True) as live:
        try:
            while not pressed(REFRESH_S):
                try:
                    shown = picture(fetch(url, "/data"))
                    live.update(shown, refresh=True)
                except RequestFailed as error:
                    live.update(Group(Text(str(error), "bold red"), Text(), shown), refresh=True)
        except KeyboardInterrupt:
            return


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Read single keys from the terminal. Yields a function that waits for a key: whether it was q within these seconds."""
    if os.name != "posix" or not sys.stdin.isatty():  # only Ctrl-C works
        yield _wait
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> bool:
        ready = select.select([sys.stdin], [], [], seconds)[0]
        return bool(ready) and sys.stdin.read(1) in ("q", "Q", "")

    tty.setcbreak(sys.stdin)
    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


# -- drawing ----------------------------------------------------------------------------------------


def picture(data: Snapshot) -> RenderableType:
    parts: list[RenderableType] = [_headline(data), Text()]
    if data["refusal"]:
        parts += [Text(f"new conversations are refused: {data['refusal']}", "bold red"), Text()]
    parts += [_stages(data), Text(), _latency(data), Text()]
    parts += [_gpus(data), Text()] if data["gpus"] else []
    parts += [_sessions(data), Text(), _turns(data)]
    return Group(*parts)


def _headline(data: Snapshot) -> Text:
    total, broker = data["latency"]["total"], data["broker"]
    turns = f"{total['n']} spoken turn" if total["n"] == 1 else f"{total['n']} spoken turns"
    figures = f"p50 {_ms(total['p50_ms'])}, {_slow_end(total)[0]} {_ms(total[_slow_end(total)[1]])} over {turns}"
    state = "not reachable"
    if broker:
        state = f"{broker['server']}, {_bytes(broker['memory_bytes'])} of {_bytes(broker['memory_limit_bytes'])}, "
        state += f"{broker['clients']} clients, {broker['commands_per_s']} commands/s"
    return Text.assemble((f"first audio sent {figures}", "bold"), f"\nbroker {state}")


def _slow_end(figures: Mapping[str, Any]) -> tuple[str, str]:
    """Name and field of the slow end: the p95, or the slowest turn where there are too few turns for it."""
    return ("slowest", "max_ms") if figures["p95_ms"] is None else ("p95", "p95_ms")


def _stages(data: Snapshot) -> Table:
    table = new_table("stage", "state", "engine", ">workers", ">jobs", "", ">wait", ">delay")
    for stage in data["stages"]:
        taken, slots = stage["slots"] - stage["free"], stage["slots"]
        lags = [worker["loop_lag_ms"] for worker in stage["workers"] if worker["loop_lag_ms"] is not None]
        table.add_row(
            stage["stage"],
            Text(*STATES.get(stage["state"], (stage["state"], ""))),
            stage["engine"] or "–",
            str(len(stage["workers"])),
            f"{taken} of {slots}" if slots else "–",
            Text("▇" * round(10 * taken / slots) if slots else "", "green"),
            _ms(stage["queue_age_ms"]),
            _ms(max(lags, default=None)),
        )
    return table


def _latency(data: Snapshot) -> RenderableType:
    if not data["latency"]["total"]["n"]:
        return Text("no spoken turn with a reply yet", "dim")
    slow, field = _slow_end(data["latency"]["total"])
    table = new_table("step", "stage", ">p50", f">{slow}")
    for part in (part for part in data["latency"]["segments"] if part["n"]):
        name = Text(label(part["name"]), COLOURS.get(part["name"], ""))
        table.add_row(name, part["stage"], _ms(part["p50_ms"]), _ms(part[field]))
    return table


def _gpus(data: Snapshot) -> Table:
    table = new_table("gpu", "name", ">busy", ">memory", ">power", ">temperature")
    for gpu in data["gpus"]:
        table.add_row(
            f"{gpu['host']}:{gpu['index']}",
            gpu["name"],
            "–" if gpu["utilization"] is None else f"{100 * gpu['utilization']:.0f} %",
            f"{_bytes(gpu['memory_used'])} of {_bytes(gpu['memory_total'])}",
            "–" if gpu["power_w"] is None else f"{gpu['power_w']:.0f} W",
            "–" if gpu["temperature_c"] is None else f"{gpu['temperature_c']:.0f} °C",
        )
    return table


def _sessions(data: Snapshot) -> RenderableType:
    count, newest = data["sessions"]["count"], data["sessions"]["newest"][:SESSIONS]
    if not count:
        return Text("no conversations on this edge", "dim")
    table = new_table("conversation", "protocol", ">age", ">turns", ">interrupted")
    for one in newest:
        table.add_row(one["id"], one["protocol"], f"{one['seconds']:.0f} s", str(one["turns"]), str(one["interrupted"]))
    if count > len(newest):
        table.add_row(f"and {count - len(newest)} more", style="dim")
    return table


def _turns(data: Snapshot) -> RenderableType:
    turns = data["turns"][:TURNS]
    if not turns:
        return Text("no finished turn yet", "dim")
    longest_ms = max([data["slow_ms"], *(part["end_ms"] for turn in turns for part in turn["segments"])])
    table = new_table("conversation", ">turn", "since the end of speech", ">sent", "outcome")
    for turn in turns:
        waited = Text(_ms(turn["first_audio_ms"]), "red" if turn["slow"] else "")
        table.add_row(turn["session"][:8], str(turn["turn"]), _bar(turn, longest_ms), waited, turn["outcome"])
    return table


def _bar(turn: Mapping[str, Any], longest_ms: float) -> Text:
    """Draw all parts of a turn in one line: the endpoint's silence, and over it the work that ran at the same time."""
    cells = [(" ", "")] * (CELLS + 1)
    for part in turn["segments"]:
        drawn = bar(part["begin_ms"] * CELLS / longest_ms, part["end_ms"] * CELLS / longest_ms)
        for column, sign in enumerate(drawn[: len(cells)]):
            if sign != " ":
                cells[column] = (SILENCE if part["name"] == "endpoint" else sign, COLOURS.get(part["name"], ""))
    return Text.assemble(*cells)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"


def _bytes(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / (1 << 30):.1f} GiB" if value >= 1 << 30 else f"{value / (1 << 20):.0f} MiB"
