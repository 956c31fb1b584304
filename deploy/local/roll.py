"""`parley roll`: replaces every service of a running `parley up` by a new process, one by one, while it serves.

Each successor is ready before its predecessor is stopped, which then finishes its work. Readers of frames are
replaced before writers: a new release may write what an old one does not know. The edge comes last: it closes each
call after a reply, with 1012, and the client resumes its conversation at the successor.
"""

import asyncio
import sys
import time
from contextlib import suppress
from functools import partial

import httpx
from pydantic import SecretStr

from deploy.local.control import NotRunning, Refused, Say, ask
from deploy.local.standby import Standby
from deploy.local.supervisor import ReplaceFailed, Supervisor
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.bus.leases import stage_status
from shared.settings import Settings
from shared.worker.lifecycle import first_message

ORDER = ("tts", "llm", "asr", "vad", "edge")
SUCCESSOR_S = 300.0
"""Time for a successor to be ready: a large model loads for minutes."""
HEALTH_S = 2.0


class Roll:
    """The command of the control socket. Only one at a time."""

    def __init__(
        self, supervisor: Supervisor, standby: Standby, settings: Settings, broker_url: str, base: str
    ) -> None:
        """`base`: the URL of the edge."""
        self._supervisor, self._standby, self._base = supervisor, standby, base
        self._settings = settings.model_copy(update={"redis_url": SecretStr(broker_url)})
        self._busy = asyncio.Lock()

    async def __call__(self, say: Say) -> str:
        """Replace all services. Returns what was done.

        Raises:
            Refused: a successor was not ready; what was replaced before stays so.
        """
        if self._busy.locked() or not self._supervisor.up.is_set():
            raise Refused("another roll is going on" if self._busy.locked() else "the services are still starting")
        failure, began_s = "", time.monotonic()
        async with self._busy:
            try:
                # A standby has imported the release that is replaced.
                with self._standby.withheld():
                    async with Bus.connect(self._settings, "roll") as bus:
                        for name in ORDER:
                            await self._replace(name, bus, say)
            except* (ReplaceFailed, BrokerGone, BrokerRefused) as group:
                failure = first_message(group)
        if failure:
            raise Refused(failure)
        return f"all services replaced in {time.monotonic() - began_s:.1f} s"

    async def _replace(self, name: str, bus: Bus, say: Say) -> None:
        began_s = time.monotonic()
        ready = self._edge_is_ready if name == "edge" else partial(_worker_is_ready, bus, name)
        await self._supervisor.replace(name, ready, SUCCESSOR_S)
        say(f"{name}: replaced in {time.monotonic() - began_s:.1f} s")

    async def _edge_is_ready(self, pid: int) -> bool:
        """Edge and successor accept from one queue: whether the successor has answered this time."""
        with suppress(httpx.HTTPError, ValueError):
            async with httpx.AsyncClient(timeout=HEALTH_S, trust_env=False) as client:
                answer = await client.get(f"{self._base}/health")
                return answer.status_code == httpx.codes.OK and answer.json().get("pid") == pid
        return False


async def _worker_is_ready(bus: Bus, stage: str, pid: int) -> bool:
    status = await stage_status(bus, stage)
    return any(str(worker.get("consumer", "")).split(":")[2:3] == [str(pid)] for worker in status.workers)


def run_roll(settings: Settings) -> int:
    """Ask the `parley up` of this machine. Returns the exit code: 0 all are replaced, 1 not all, or no `parley up` answers."""
    try:
        print(asyncio.run(ask(settings.port, "roll", lambda line: print(line, flush=True), timeout_s=None)))
    except (NotRunning, Refused) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
