"""A pytest plugin that fails a test for what it leaves behind: asyncio tasks, threads, errors that asyncio only logged.

It watches `asyncio.Runner`, through which every loop of a test runs: pytest-asyncio's, `asyncio.run` and virtual time.
"""

import asyncio
import logging
import math
import threading
import traceback
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

ROOT = Path(__file__).parents[2]
SETTLE_TICKS = 20
"""Loop iterations that a cancelled task, or a transport that was closed, gets to end."""
JOIN_S = 5.0
"""A thread that was asked to end does so within this, on a slow machine too."""
LIBRARIES = ("asyncio_", "tqdm", "TMonitor")
"""Threads by the start of their name that their library ends itself: the executor of a loop, tqdm's monitor."""

_MACHINERY = ("<", str(Path(asyncio.__file__).parent), str(ROOT / ".venv"), __file__)
"""Paths of what starts tasks for others, and so does not say where one was made."""


class Watch:
    """What is running, and what was left behind since the last check."""

    def __init__(self) -> None:
        self.debug = False
        """Whether loops run in asyncio's debug mode from now on."""
        self._runners: WeakSet[asyncio.Runner] = WeakSet()
        self._known: WeakSet[asyncio.Task[object]] = WeakSet()
        self._threads: WeakSet[threading.Thread] = WeakSet(threading.enumerate())
        self._left: list[str] = []

    def install(self) -> None:
        """Watch every `asyncio.Runner` of this process, and the errors that asyncio logs, until the process ends."""
        run, close = asyncio.Runner.run, asyncio.Runner.close

        def watched_run(runner: asyncio.Runner, *args: object, **options: object) -> object:
            loop = runner.get_loop()
            loop.set_debug(self.debug)
            loop.slow_callback_duration = math.inf  # a test is not to blame for a slow machine
            self._runners.add(runner)
            return run(runner, *args, **options)  # type: ignore[arg-type]

        def watched_close(runner: asyncio.Runner) -> None:
            if runner in self._runners:  # it has a loop
                self._runners.discard(runner)
                self._left += map(_describe_task, self._tasks_of(runner))
            close(runner)

        asyncio.Runner.run, asyncio.Runner.close = watched_run, watched_close  # type: ignore[assignment, method-assign]
        logging.getLogger("asyncio").addHandler(_ErrorHandler(self._left))

    def keep(self) -> None:
        """What runs now may go on: it belongs to a fixture of several tests."""
        for runner in list(self._runners):
            self._known.update(asyncio.all_tasks(runner.get_loop()))
        self._threads.update(threading.enumerate())

    def left(self) -> list[str]:
        """Descriptions of the tasks and errors that were left since the last call."""
        for runner in list(self._runners):
            tasks = self._tasks_of(runner)
            self._known.update(tasks)
            self._left += map(_describe_task, tasks)
        left, self._left[:] = list(self._left), []
        return left

    def left_threads(self) -> list[str]:
        """Names of the threads that were left since the last call; each gets a while to end."""
        new = [thread for thread in threading.enumerate() if thread not in self._threads]
        new = [thread for thread in new if not thread.name.startswith(LIBRARIES)]
        for thread in new:
            thread.join(JOIN_S)
        left = [thread for thread in new if thread.is_alive()]
        self._threads.update(left)
        return [f"thread {thread.name!r} still runs" for thread in left]

    def _tasks_of(self, runner: asyncio.Runner) -> Iterable[asyncio.Task[object]]:
        loop = runner.get_loop()
        if loop.is_running() or loop.is_closed():  # a loop in another thread, or one that the test closed
            return []
        for _ in range(SETTLE_TICKS):
            if not (left := [task for task in asyncio.all_tasks(loop) if task not in self._known]):
                break
            loop.run_until_complete(asyncio.sleep(0))
        return left


class _ErrorHandler(logging.Handler):
    """Collects errors: a task destroyed while pending, an exception never retrieved, an exception in a callback."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        message = [line for line in record.getMessage().splitlines() if not line.startswith((" ", "source_traceback"))]
        if record.exc_info:
            message += traceback.format_exception(*record.exc_info, limit=-2)
        self._errors.append("asyncio logged: " + "\n  ".join(message))


def _describe_task(task: asyncio.Task[object]) -> str:
    """Its name, its coroutine, where it waits and, in debug mode, where it was made."""
    coroutine = task.get_coro()
    lines = [f"task {task.get_name()!r} still runs: {getattr(coroutine, '__qualname__', coroutine)}"]
    if frames := task.get_stack(limit=1):
        lines.append(f"  it waits at {_place(frames[0].f_code.co_filename, frames[0].f_lineno)}")
    made: Iterable[traceback.FrameSummary] = getattr(task, "_source_traceback", None) or ()
    callers = [frame for frame in made if not frame.filename.startswith(_MACHINERY)]
    lines += [f"  made at {_place(frame.filename, frame.lineno)}: {frame.line}" for frame in callers[-3:]]
    return "\n".join(lines)


def _place(filename: str, line: int | None) -> str:
    return f"{filename.removeprefix(f'{ROOT}/')}:{line}"


watch = Watch()


def pytest_configure() -> None:
    watch.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Unit tests run in asyncio's debug mode; the others, which keep time with real processes, do not."""
    watch.debug = "unit" in item.path.parts and item.get_closest_marker("no_debug") is None
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """What a fixture of several tests starts is not left behind by the first of them."""
    made = yield
    if fixturedef.scope != "function":
        watch.keep()
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """A test that leaves a task or an error behind fails; so does the last of a module whose threads still run."""
    result = yield
    left = watch.left()
    if nextitem is None or nextitem.path != item.path:
        left += watch.left_threads()
    if left:
        pytest.fail("\n".join(("left behind:", *left)), pytrace=False)
    return result
