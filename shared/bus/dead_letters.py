"""Dead letters: entries of streams that a stage gave up, or could not read, with the reason.

`Bus.dead_letter` writes them. This file reads them, puts jobs back, and deletes them.
"""

from dataclasses import dataclass
from typing import Literal

from shared.bus import scripts
from shared.bus.bus import Bus
from shared.protocol.codec import BadFrame
from shared.protocol.entry_id import milliseconds
from shared.protocol.frames import Frame, SessionEnded, codec
from shared.protocol.streams import JOB_KINDS, JOBS, MAXLEN, StreamKind

ROLES = (*JOBS, "edge")
"""Everyone who has dead letters: the stages, and the edge, which reads the sessions' logs."""

Retried = Literal["retried", "gone", "no_job", "session_ended"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that was set aside."""

    role: str
    """The stage that gave it up; `edge`."""
    id: str
    """The letter's own id in its stream."""
    stream: str
    """The key of the stream that the entry was in."""
    entry_id: str
    session: str
    """The session that it belongs to; empty if that is unknown."""
    error: str
    body: bytes
    """The entry, at most 64 KiB of it; empty: it was not kept any longer."""

    @property
    def name(self) -> str:
        """How the letter is called on the command line."""
        return f"{self.role}:{self.id}"

    @property
    def at_ms(self) -> int:
        """When it was set aside, in ms since 1970 of the broker's clock."""
        return milliseconds(self.id)

    @property
    def frames(self) -> list[Frame]:
        """The entry's frames; none if it cannot be decoded."""
        try:
            return codec.decode_entry(self.body)
        except BadFrame:
            return []

    @property
    def job(self) -> Frame | None:
        """The job that the stage gave up; None if the entry is not a job of the stage."""
        frames = self.frames
        return frames[0] if len(frames) == 1 and type(frames[0]) in JOB_KINDS.get(self.role, ()) else None


async def dead_letters(bus: Bus, role: str, limit: int = 1_000) -> list[DeadLetter]:
    """Return the newest dead letters of a stage, oldest first. Raises as `Bus.call`."""
    entries = await bus.call(b"XREVRANGE", bus.keys.dead(role), b"+", b"-", b"COUNT", limit)
    bodies = await _bodies(bus, role) if entries else {}
    return [_letter(role, entry_id, fields, bodies) for entry_id, fields in reversed(entries)]


async def find_letter(bus: Bus, name: str) -> DeadLetter | None:
    """Return the dead letter of this name; None if it does not exist. Raises as `Bus.call`."""
    role, _, letter_id = name.partition(":")
    milliseconds_, _, number = letter_id.partition("-")
    if role not in ROLES or not (milliseconds_.isdecimal() and number.isdecimal()):
        return None
    entries = await bus.call(b"XRANGE", bus.keys.dead(role), letter_id, letter_id)
    if not entries:
        return None
    found_id, fields = entries[0]
    return _letter(role, found_id, fields, await _bodies(bus, role))


async def retry(bus: Bus, letter: DeadLetter) -> Retried:
    """Put a job back into its stage's stream and delete the letter, if the job's session lives. Raises as `Bus.call`."""
    if letter.job is None:
        return "no_job"
    if not await _is_open(bus, letter.session):
        return "session_ended"
    keys = (bus.keys.dead(letter.role), bus.keys.jobs(letter.role))
    args = (letter.id, MAXLEN[JOBS[letter.role]], letter.body)
    return "retried" if await bus.call_script(scripts.RETRY, keys, args) else "gone"


async def drop(bus: Bus, letter: DeadLetter) -> bool:
    """Delete a dead letter. Returns False if it was gone. Raises as `Bus.call`."""
    return bool(await bus.call(b"XDEL", bus.keys.dead(letter.role), letter.id))


async def _is_open(bus: Bus, session: str) -> bool:
    """Whether the session goes on: its keys outlive it for a while."""
    if not await bus.session_lives(session):
        return False
    entries = await bus.raw_log(StreamKind.OUT, session, "-", 1) or []
    try:
        latest = [frame for _, fields in entries for frame in codec.decode_entry(fields[1])]
    except BadFrame:
        return True
    return not any(isinstance(frame, SessionEnded) for frame in latest)


async def _bodies(bus: Bus, role: str) -> dict[bytes, bytes]:
    """Return what is still kept of the entries themselves, by their ids."""
    contents = await bus.call(b"XRANGE", bus.keys.dead_content(role), b"-", b"+")
    pairs = (dict(zip(fields[::2], fields[1::2], strict=False)) for _, fields in contents)
    return {values[b"id"]: values[b"body"] for values in pairs}


def _letter(role: str, letter_id: bytes, fields: list[bytes], bodies: dict[bytes, bytes]) -> DeadLetter:
    values = dict(zip(fields[::2], fields[1::2], strict=False))
    names = (b"stream", b"id", b"session", b"error")
    stream, entry, session, error = (values.get(name, b"").decode(errors="replace") for name in names)
    return DeadLetter(role, letter_id.decode(), stream, entry, session, error, bodies.get(values.get(b"id", b""), b""))
