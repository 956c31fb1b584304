"""A supervisor in the foreground of a terminal: what its signals do, and tasks that run beside it."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from deploy.local.supervised import Reporter
from deploy.local.supervisor import StartFailed, Supervisor


def handle_signals(on_signal: Callable[[], None]) -> None:
    """Call `on_signal` for Ctrl-C, SIGTERM, and the end of the terminal."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


def stop_or_kill(supervisor: Supervisor, reporter: Reporter) -> None:
    """Stop the services in order; at the second call, kill them."""
    reporter.say("killing all processes" if supervisor.stopping else "stopping; press Ctrl-C again to kill")
    supervisor.stop()


async def run_supervisor(supervisor: Supervisor, *beside: Coroutine[Any, Any, None]) -> None:
    """Run the supervisor until it stops. The coroutines run beside it and are then cancelled.

    Raises:
        StartFailed: a service cannot start.
    """
    failure: StartFailed | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in beside]
        try:
            await supervisor.run()
        except StartFailed as error:  # the task group would wrap it in an ExceptionGroup
            failure = error
        for task in tasks:
            task.cancel()
    if failure is not None:
        raise failure
