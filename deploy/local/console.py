"""The output of `parley up`: plain lines, and in a terminal a live table of the services below them."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.local.supervised import Service
from deploy.monitor.drawing import new_table

REFRESH_S = 1.0
MIB = 1 << 20
COLOURS = {
    "starting": "yellow",
    "waiting": "yellow",
    "ready": "green",
    "restarting": "yellow",
    "failed": "red",
    "stopped": "dim",
}


class PlainConsole:
    """Writes the supervisor's lines to stdout and the services' output to stderr; their JSON lines stay unchanged."""

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the reader is gone; the system goes on
            print(text, flush=True)

    def output(self, name: str, line: str) -> None:
        with contextlib.suppress(OSError):
            print(line if line.startswith("{") else f"{name}: {line}", file=sys.stderr, flush=True)

    async def show(self, services: Sequence[Service], waits: Mapping[str, str]) -> None:
        """Show nothing: there is no table without a terminal."""


class LiveConsole:
    """Writes all lines to stderr, with a table of the services below them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._processes: dict[int, psutil.Process] = {}

    def say(self, text: str) -> None:
        self._print(Text(text, style="bold"))

    def output(self, name: str, line: str) -> None:
        self._print(Text.assemble((f"{name:>6} ", "dim"), Text.from_ansi(line)))

    def _print(self, text: Text) -> None:
        with contextlib.suppress(OSError):
            self._console.print(text, soft_wrap=True)

    async def show(self, services: Sequence[Service], waits: Mapping[str, str]) -> None:
        """Keep the table up to date until cancelled. `waits`: what services wait for, in words; it changes."""
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                with contextlib.suppress(OSError):
                    lines = [Text(f"{name} waits for {text}", style="yellow") for name, text in waits.items()]
                    live.update(Group(self._table(services, waits), *lines), refresh=True)
                await asyncio.sleep(REFRESH_S)

    def _table(self, services: Sequence[Service], waits: Mapping[str, str]) -> Table:
        table = new_table("service", "state", ">pid", ">uptime", ">restarts", ">cpu %", ">memory")
        table.columns[1].min_width = max(map(len, COLOURS))  # the table stays still when a state changes
        for service in services:
            pid = service.process.pid if service.process is not None and service.alive else None
            uptime = str(timedelta(seconds=int(time.monotonic() - service.started_s))) if pid else "–"
            cpu, memory = self._load(pid)
            name = service.spec.name
            shown = "waiting" if service.state == "starting" and name in waits else service.state
            state = Text(shown, style=COLOURS[shown])
            table.add_row(name, state, str(pid or "–"), uptime, str(service.restarts), cpu, memory)
        return table

    def _load(self, pid: int | None) -> tuple[str, str]:
        """CPU since the last call in percent of one core, and resident memory; dashes if the process is gone."""
        try:
            if pid is None:
                return "–", "–"
            process = self._processes.setdefault(pid, psutil.Process(pid))
            return f"{process.cpu_percent():.0f}", f"{process.memory_info().rss / MIB:.0f} MiB"
        except psutil.Error:
            return "–", "–"


def open_console() -> PlainConsole | LiveConsole:
    """The live console if stdout and stderr are a terminal, otherwise the plain one."""
    terminal = sys.stdout.isatty() and sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal
    return LiveConsole() if terminal else PlainConsole()
