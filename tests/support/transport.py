"""A connection without a network, for the protocols of a server."""

import asyncio
from typing import Any


class FakeTransport(asyncio.Transport):
    """Keeps what is written. `reads`: the other side takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.closed, self.written = True, False, b""
        self.reads, self.unsent = True, 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write(self, data: Any) -> None:
        self.written += data
        if not self.reads:
            self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent
