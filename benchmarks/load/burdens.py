"""What one client can do to an edge, each as a process of its own: `python -m benchmarks.load.burdens NAME URL SECONDS`.

Most write raw bytes: a client library would be slower than the edge.
"""

import asyncio
import json
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

FRAME_BYTES = 640
"""20 ms of audio at 16 kHz."""

LEAVE = b"\x88\x82" + bytes(4) + (1000).to_bytes(2, "big")
"""A close frame. A client that vanishes without one may come back, so its session is kept for a while."""

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Burden = Callable[[str, float], Awaitable[str]]
"""Takes the edge's URL and the time that it has, in seconds; returns what happened, in a few words."""


# -- a WebSocket as bytes -------------------------------------------------------------------------


def frame(message: str | bytes) -> bytes:
    """A client's frame; the mask is zero."""
    data, opcode = (message.encode(), 0x81) if isinstance(message, str) else (message, 0x82)
    if len(data) < 126:
        return bytes((opcode, 0x80 | len(data))) + bytes(4) + data
    if len(data) < 65536:
        return bytes((opcode, 0xFE)) + struct.pack("!H", len(data)) + bytes(4) + data
    return bytes((opcode, 0xFF)) + struct.pack("!Q", len(data)) + bytes(4) + data


async def opened(url: str) -> tuple[Reader, Writer]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def upgraded(url: str, path: str) -> tuple[Reader, Writer, bytes]:
    """A connection after its handshake, with the status line of the answer."""
    reader, writer = await opened(url)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    status = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
    return reader, writer, status


@asynccontextmanager
async def session(url: str, path: str = "/ws?rate=16000", **config: object) -> AsyncIterator[tuple[Reader, Writer]]:
    """A session that has been started, of `/ws` or of `/v1/realtime`."""
    reader, writer, _ = await upgraded(url, path)
    if path.startswith("/ws"):
        writer.write(frame(json.dumps({"type": "start_streaming", "config": config})))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def taken(reader: Reader) -> int:
    """Read until the server closes. Returns the bytes."""
    total = 0
    with suppress(OSError):
        while data := await reader.read(65536):
            total += len(data)
    return total


async def flood(writer: Writer, message: bytes, number: int, seconds: float) -> int:
    """Write a message as often as the connection takes it, at most `number` times."""
    sent, batch = 0, message * 100
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            while sent < number:
                writer.write(batch)
                await writer.drain()
                sent += 100
                await asyncio.sleep(0)
    return sent


@asynccontextmanager
async def reading(reader: Reader) -> AsyncIterator["asyncio.Task[int]"]:
    """Read what the server sends, so that it is not held up, until the context ends."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(taken(reader))
        try:
            yield task
        finally:
            task.cancel()


async def flooded(url: str, path: str, message: str | bytes, number: int, seconds: float) -> str:
    async with session(url, path) as (reader, writer), reading(reader) as closed:
        until_s = asyncio.get_running_loop().time() + seconds
        sent = await flood(writer, frame(message), number, seconds)
        await asyncio.wait([closed], timeout=max(0.0, until_s - asyncio.get_running_loop().time()))
        return f"{sent} messages taken{', then closed' if closed.done() else ''}"


# -- the burdens ----------------------------------------------------------------------------------


async def nothing(url: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "nothing"


async def typed(url: str, seconds: float) -> str:
    """100,000 typed turns as fast as they are taken."""
    return await flooded(url, "/ws?rate=16000", '{"type":"text_input","text":"hello"}', 100_000, seconds)


async def items(url: str, seconds: float) -> str:
    """3,000 items of a Realtime conversation in one burst."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello there " * 8}]}
    return await flooded(
        url, "/v1/realtime", json.dumps({"type": "conversation.item.create", "item": item}), 3000, seconds
    )


async def fast_audio(url: str, seconds: float) -> str:
    """Audio at 50 times real time."""
    async with session(url) as (reader, writer), reading(reader) as closed:
        loop, sent = asyncio.get_running_loop(), 0
        began_s = loop.time()
        with suppress(OSError):
            while loop.time() - began_s < seconds and not closed.done():
                writer.write(frame(bytes(FRAME_BYTES)) * 50)
                await writer.drain()
                sent += 1
                await asyncio.sleep(began_s + sent * 0.02 - loop.time())
        return f"{sent} s of audio in {loop.time() - began_s:.0f} s{', then closed' if closed.done() else ''}"


async def slow_reader(url: str, seconds: float) -> str:
    """A client that asks for long replies and reads nothing."""
    async with session(url, "/ws?rate=48000") as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - no public way to stop reading
        for _ in range(int(seconds)):
            writer.write(frame('{"type":"text_input","text":"tell me everything"}'))
            await asyncio.sleep(1)
            if writer.is_closing():
                return "closed"
    return "never closed"


async def silent_sockets(url: str, seconds: float) -> str:
    """500 WebSockets that say nothing."""
    answers = await asyncio.gather(*(upgraded(url, "/ws?rate=16000") for _ in range(500)), return_exceptions=True)
    held = [answer for answer in answers if not isinstance(answer, BaseException)]
    accepted = sum(b"101" in status for _, _, status in held)
    await asyncio.sleep(seconds)
    closed = sum(reader.at_eof() or len(reader._buffer) > 0 for reader, _, _ in held)  # type: ignore[attr-defined]  # noqa: SLF001
    for _, writer, _ in held:
        writer.close()
    return f"{accepted} of 500 accepted, {closed} closed after {seconds:g} s"


async def half_requests(url: str, seconds: float) -> str:
    """500 connections with half a request each."""
    held = [await opened(url) for _ in range(500)]
    for _, writer in held:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    async with AsyncExitStack() as stack:
        tasks = [await stack.enter_async_context(reading(reader)) for reader, _ in held]
        done, _ = await asyncio.wait(tasks, timeout=seconds)
    for _, writer in held:
        writer.close()
    return f"{len(done)} of 500 closed after {seconds:g} s"


async def long_headers(url: str, seconds: float) -> str:
    """Headers without end on one connection."""
    reader, writer = await opened(url)
    async with reading(reader):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        sent = await flood(writer, b"X-Long: " + b"x" * 1000 + b"\r\n", 150_000, seconds)
    writer.close()
    return f"{sent / 1000:.0f} MB taken"


async def connections(url: str, seconds: float) -> str:
    """200 WebSockets a second, each with a session, closed at once."""

    async def one() -> bool:
        with suppress(OSError, asyncio.IncompleteReadError):  # refused
            reader, writer, status = await upgraded(url, "/ws?rate=16000")
            writer.write(frame('{"type":"start_streaming"}'))
            ready = b"ready" in await reader.read(4096)
            writer.write(LEAVE)
            await taken(reader)
            writer.close()
            return b"101" in status and ready
        return False

    loop, sessions = asyncio.get_running_loop(), list[asyncio.Task[bool]]()
    began_s = loop.time()
    async with asyncio.TaskGroup() as tasks:
        while loop.time() - began_s < seconds:
            sessions.append(tasks.create_task(one()))
            await asyncio.sleep(max(0.0, began_s + len(sessions) / 200 - loop.time()))
    return f"{sum(one.result() for one in sessions)} of {len(sessions)} sessions"


BURDENS: dict[str, Burden] = {
    burden.__name__.replace("_", "-"): burden
    for burden in (
        nothing, typed, items, fast_audio, slow_reader, silent_sockets, half_requests, long_headers, connections
    )
}  # fmt: skip


if __name__ == "__main__":
    os.nice(5)  # the callers whose waiting is measured share the processor with it
    print(asyncio.run(BURDENS[sys.argv[1]](sys.argv[2], float(sys.argv[3]))))  # type: ignore[arg-type]
