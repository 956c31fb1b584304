"""Recordings of sessions: files of what went into a session and what came out, for `parley replay`.

A recording is a sequence of MessagePack arrays: a header, then an entry for each entry of the session's input (`in`) and
log (`out`). The edges of a resumed session append to one file, so a header can come again, and entries twice.
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgpack

from shared.protocol.codec import BadFrame
from shared.protocol.entry_id import milliseconds, order
from shared.protocol.frames import Frame, codec
from shared.protocol.streams import StreamKind
from shared.settings import Settings

MAGIC, FORMAT = "parley-recording", 1
SUFFIX = ".parley"
SESSION_ID = re.compile(r"[0-9a-f]{32}")
"""The edge draws 128 random bits: a name of a file, and of nothing else."""


class BadRecording(ValueError):
    """A file that is not a recording, or a session without one. The message says which."""


class Entry(NamedTuple):
    """One entry of a stream, as it was in the broker."""

    id: str
    fence: int
    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Recording:
    session: str
    protocol: str
    """How the client was connected."""
    input: tuple[Entry, ...]
    log: tuple[Entry, ...]


def recordings_folder(settings: Settings) -> Path:
    return settings.data_dir.expanduser() / "recordings"


def recording_path(folder: Path, session: str) -> Path:
    """Raises `BadRecording` if this is not the id of a session."""
    if not SESSION_ID.fullmatch(session):
        raise BadRecording(f"{session[:80]!r} is not the id of a session: 32 characters of 0-9 and a-f")
    return folder / f"{session}{SUFFIX}"


def pack_header(session: str, protocol: str) -> bytes:
    return bytes(msgpack.packb([MAGIC, FORMAT, session, protocol]))


def pack_entry(kind: StreamKind, entry_id: str, fence: int, frames: Sequence[Frame]) -> bytes:
    body = codec.entry([codec.encode(frame) for frame in frames])
    return bytes(msgpack.packb([kind.value, entry_id, fence, body]))


def append(path: Path, packed: bytes) -> None:
    """Add to a file that only its owner can read. Blocking. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(packed)


def read_recording(path: Path) -> Recording:
    """Read a recording. An end that was cut off in the middle of an entry is ignored.

    Raises:
        BadRecording: there is no such file, or it is not a recording.
    """
    try:
        with path.open("rb") as file:
            items = list(msgpack.Unpacker(file, raw=False))
    except FileNotFoundError:
        raise BadRecording(f"there is no recording {path}") from None
    except (OSError, ValueError, msgpack.UnpackException) as error:
        raise BadRecording(f"{path} cannot be read: {error}") from None
    streams: dict[str, dict[str, Entry]] = {StreamKind.IN.value: {}, StreamKind.OUT.value: {}}
    header: list[str] = []
    try:
        for item in items:
            if item[0] == MAGIC:
                _, version, *header = item
                if version != FORMAT:
                    raise BadRecording(f"{path} has format {version}; this release reads {FORMAT}")
            else:
                kind, entry_id, fence, body = item
                milliseconds(entry_id)
                streams[kind].setdefault(entry_id, Entry(entry_id, int(fence), codec.decode_entry(body)))
        session, protocol, *_ = map(str, header)
        heard, log = (sorted(found.values(), key=lambda one: order(one.id)) for found in streams.values())
    except (AttributeError, BadFrame, LookupError, TypeError, ValueError) as error:
        if isinstance(error, BadRecording):
            raise
        raise BadRecording(f"{path} is not a recording: {error}") from None
    return Recording(session, protocol, tuple(heard), tuple(log))


def delete_recording(folder: Path, session: str) -> bool:
    """Delete a session's recording, and return whether it existed. Raises `BadRecording` for an invalid id, and `OSError`."""
    path = recording_path(folder, session)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def delete_old(folder: Path, keep_h: int) -> int:
    """Delete the recordings that were not written to for this long, and return how many. Blocking."""
    oldest_s = time.time() - 3600 * keep_h
    old = [path for path in folder.glob(f"*{SUFFIX}") if path.stat().st_mtime < oldest_s]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
