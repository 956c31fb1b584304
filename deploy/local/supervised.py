"""A service that the supervisor runs: its process is started again when it dies, with exponential back-off."""

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from deploy.local.process import Launch, Process, describe_exit, run_program, start

State = Literal["starting", "ready", "restarting", "failed", "stopped"]

BAD_SETTINGS = 2
"""Exit code of a service whose settings are wrong: a restart will not help."""
FAILED_AFTER = 5
"""A service that dies this many times in a row is shown as failed. It is still restarted."""
LAST_LINES = 30
"""Lines of output kept for each service."""


class Reporter(Protocol):
    """Receives the messages of the supervisor and the output of the services."""

    def say(self, text: str) -> None:
        """Print a message of the supervisor: one line."""

    def output(self, name: str, line: str) -> None:
        """Print a line that the service `name` wrote."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A process to run."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    tier: int = 1
    needed: bool = True
    """The next tier starts only after this service is ready."""
    quiet: bool = False
    """Its output is shown only if it dies."""
    fds: tuple[int, ...] = ()
    """Descriptors that the process inherits."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays and limits of the supervisor, in seconds."""

    first_delay_s: float = 0.2
    """Delay before the second restart in a row; it doubles with each further death. The first restart is immediate."""
    longest_delay_s: float = 5.0
    healthy_s: float = 10.0
    """A service that lived this long restarts the back-off."""
    grace_s: float = 7.0
    """Time for a tier to stop before it is killed."""
    settle_s: float = 3.0
    """Time after a restart in which the probe may still report the dead predecessor as ready."""
    probe_s: float = 0.1
    """Interval of the probe while a service is not ready."""
    watch_s: float = 2.0
    """Interval of the probe while all services are ready."""

    def delay_s(self, deaths: int) -> float:
        """Return the delay before the next start, after this many deaths in a row."""
        repeats = deaths - 1
        return min(self.first_delay_s * 2.0 ** min(repeats - 1, 10), self.longest_delay_s) if repeats else 0.0


@dataclass(slots=True)
class Service:
    """A supervised process and its state."""

    spec: ServiceSpec
    launch: Launch = run_program
    state: State = "starting"
    process: Process | None = None
    started_s: float = 0.0
    """Time of the last start; monotonic clock."""
    restarts: int = 0
    seen_unready: bool = True
    """Whether the probe has reported it as not ready since its last start: a later "ready" is then about this process."""
    deaths: int = 0
    """Deaths in a row: none of these processes lived `healthy_s`."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.signal(number)

    async def keep_running(self, policy: Policy, reporter: Reporter, is_starting: Callable[[], bool]) -> bool:
        """Run the process again and again until `stopping` is set.

        Returns False if its settings are wrong while `is_starting()`: the system's first start, when a user waits for a message.
        """
        while not self.stopping.is_set():
            await self._run_process(reporter)
            if self.stopping.is_set():
                break
            code = self.process.exit_code if self.process is not None else None
            self._count_death(policy, reporter)
            if code == BAD_SETTINGS and is_starting():
                self.state = "failed"
                return False
            delay_s = policy.delay_s(self.deaths)
            when = f"in {delay_s:g} s" if delay_s else "now"
            reporter.say(f"{self.spec.name} {describe_exit(code)}; restarting {when}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self.stopping.wait()
            self.restarts += 1
        self.state = "stopped"
        return True

    async def _run_process(self, reporter: Reporter) -> None:
        self.started_s = time.monotonic()
        self.seen_unready = self.restarts == 0
        self.process = None
        self.lines.clear()

        def on_line(line: str) -> None:
            self.lines.append(line)
            if not self.spec.quiet:
                reporter.output(self.spec.name, line)

        try:
            self.process = await start(self.spec.argv, self.spec.env, self.spec.fds, self.launch)
        except OSError as error:
            on_line(f"{self.spec.argv[0]}: {error.strerror}")
            return
        if self.stopping.is_set():  # the supervisor was stopped during the start
            self.signal(signal.SIGTERM)
        await self.process.wait(on_line)

    def _count_death(self, policy: Policy, reporter: Reporter) -> None:
        """Count a death of the process. Its output is shown now, if it was not before."""
        if time.monotonic() - self.started_s >= policy.healthy_s:
            self.deaths = 0
        self.deaths += 1
        self.state = "failed" if self.deaths >= FAILED_AFTER else "restarting"
        if self.spec.quiet:
            for line in self.lines:
                reporter.output(self.spec.name, line)
