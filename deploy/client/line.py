"""A connection to `/ws` that resumes its session when it is lost: at the same address, which may be another edge."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.protocol import State

from deploy.client.received import Received
from deploy.monitor.client import authorization

CONNECT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
FINAL = (1003, 1007, 1008, 1009, 1013)
"""Close codes after which the session does not go on."""


class SessionGone(RuntimeError):
    """The server answers and has forgotten the session."""


class Line:
    """One session over as many connections as it needs."""

    def __init__(self, address: str, config: Mapping[str, Any]) -> None:
        """`config`: the settings of the session."""
        self._address = address
        self._start: dict[str, Any] = {"type": "start_streaming"} | ({"config": dict(config)} if config else {})
        self._received = Received()
        self._resume_s = 0.0
        self._socket: ClientConnection

    async def open(self) -> dict[str, Any]:
        """Connect and begin, or resume, the session. Returns the server's first message: `ready`, or its refusal.

        Raises:
            OSError, WebSocketException, TimeoutError: the server does not answer.
        """
        # Audio does not compress; a proxy would delay it.
        socket = await connect(
            self._address, open_timeout=CONNECT_S, compression=None, proxy=None, max_size=None,
            additional_headers=authorization(),
        )  # fmt: skip
        await socket.send(json.dumps({**self._start, **self._received.fields()}))
        async with asyncio.timeout(CONNECT_S):
            first: dict[str, Any] = json.loads(await socket.recv())
        self._socket = socket  # only now: until then what is sent goes to the connection that is lost
        if first["type"] == "ready":
            self._received.message(first)
            self._resume_s = first.get("resume", {}).get("expires_s", 0.0)
        return first

    async def close(self) -> None:
        await self._socket.close()

    @property
    def is_lost(self) -> bool:
        """The connection is lost, or about to be replaced."""
        return self._socket.state is not State.OPEN

    async def send(self, message: str | bytes) -> None:
        """Send a message. While the connection is lost, messages are dropped.

        Raises:
            ConnectionClosed: the session is over.
        """
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            if not self._goes_on(error):
                raise

    async def messages(self) -> AsyncIterator[str | bytes]:
        """What the server sends, until it ends the session: each message once, whatever happens to the connection.

        Raises:
            ConnectionClosed: the session is over because of a fault.
            SessionGone: it cannot be resumed.
        """
        while True:
            try:
                async for message in self._socket:
                    if isinstance(message, bytes):
                        self._received.audio(message)
                    else:
                        self._received.message(json.loads(message))
                    yield message
                return
            except ConnectionClosed as error:
                if not self._goes_on(error):
                    raise
                await self._resume(error)

    def _goes_on(self, error: ConnectionClosed) -> bool:
        """Whether the session can be resumed after this."""
        return bool(self._received.token) and (error.rcvd is None or error.rcvd.code not in (1000, 1001, *FINAL))

    async def _resume(self, lost: ConnectionClosed) -> None:
        loop = asyncio.get_running_loop()
        end_s, pause_s = loop.time() + self._resume_s, FIRST_PAUSE_S
        while loop.time() < end_s:
            try:
                first = await self.open()
            except (OSError, WebSocketException, TimeoutError):  # refused, or not there yet
                await asyncio.sleep(pause_s * (0.5 + random.random() / 2))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            if not first.get("resumed"):
                raise SessionGone("the server has forgotten the session")
            return
        raise lost
