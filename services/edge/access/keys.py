"""Keys of those who may use the edge, in a file that holds only their hashes.

The file is written by `parley keys`, and read again by each edge when it has changed. A key has 256 random bits, so its plain
SHA-256 cannot be guessed, and a look-up by the hash tells an attacker nothing by its duration.
"""

import fcntl
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shared.settings import BadSettings, Settings

log = structlog.get_logger()

PREFIX = "pk_"
FILE = "keys.json"


class BadKeys(BadSettings):
    """The file of the keys cannot be used. The message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: not the key itself."""

    id: str
    """Names it in logs, and for `parley keys revoke`."""
    name: str
    created_s: int
    """Seconds since 1970."""
    expires_s: int | None = None
    """Seconds since 1970; None: never."""
    sessions: int | None = None
    """Most sessions at the same time on one edge; None: no limit of its own."""
    agents: tuple[str, ...] = ()
    """The agents that it may talk with; empty: all."""
    operator: bool = False
    """It also opens the monitor, and may add and delete voices."""

    def has_expired(self, now_s: float) -> bool:
        return self.expires_s is not None and now_s >= self.expires_s


Keys = dict[str, Key]
"""What is known of each key, by its SHA-256 in hexadecimal."""
_KEYS: TypeAdapter[Keys] = TypeAdapter(Keys)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyFile:
    """The keys of the settings' data folder."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.data_dir.expanduser() / FILE
        self._seen: tuple[int, ...] = ()
        self._keys: Keys = {}

    def read(self) -> Mapping[str, Key]:
        """Return all keys by their hash. Reads the file only if it has changed; otherwise this costs one system call.

        Raises:
            BadKeys: the file cannot be read.
        """
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self._keys = (), {}
            return self._keys
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            try:
                self._keys, self._seen = _KEYS.validate_json(self.path.read_bytes()), seen
            except OSError as error:
                raise BadKeys(f"{self.path}: {error.strerror}") from None
            except ValidationError as error:
                raise BadKeys(f"{self.path} is not a file of keys: {error.errors()[0]['msg']}") from None
        return self._keys

    def find(self, text: str) -> Key | None:
        """Return what is known of this key, if it is valid."""
        key = self._last_read().get(digest(text))
        return None if key is None or key.has_expired(time.time()) else key

    def valid(self) -> dict[str, Key]:
        """Return the keys that can be used now, by their ids."""
        now_s = time.time()
        return {key.id: key for key in self._last_read().values() if not key.has_expired(now_s)}

    def _last_read(self) -> Mapping[str, Key]:
        """Return all keys; if the file cannot be read now, those read before."""
        try:
            return self.read()
        except BadKeys as error:
            log.error("keys file cannot be read", reason=str(error))  # noqa: TRY400 - the code is not at fault
            return self._keys

    # -- changes, by `parley keys` -------------------------------------------------------------------------------

    def create(
        self, name: str, *, days: float | None = None, sessions: int | None = None, agents: tuple[str, ...] = (),
        operator: bool = False,
    ) -> tuple[str, Key]:  # fmt: skip
        """Add a key. Returns it, which nobody can do later, and what is known of it.

        Raises:
            BadKeys: the file cannot be read or written.
        """
        secret, now_s = PREFIX + secrets.token_urlsafe(32), int(time.time())
        expires_s = None if days is None else now_s + round(86_400 * days)
        key = Key(secrets.token_hex(4), name, now_s, expires_s, sessions, agents, operator)
        with self._changed() as keys:
            keys[digest(secret)] = key
        return secret, key

    def revoke(self, which: str) -> list[Key]:
        """Delete the key with this id, or all with this name. Returns those that it deleted.

        Raises:
            BadKeys: the file cannot be read or written.
        """
        with self._changed() as keys:
            revoked = {hash_: key for hash_, key in keys.items() if which in (key.id, key.name)}
            for hash_ in revoked:
                del keys[hash_]
        return list(revoked.values())

    @contextmanager
    def _changed(self) -> Iterator[Keys]:
        """The keys, to be changed; writes them at the end. Two commands at once wait for each other."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with (self.path.parent / f".{FILE}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = dict(self.read())
                yield keys
                # A temporary file has the mode 0600, and a reader sees either the old file or the new one.
                with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f".{FILE}.", delete=False) as new:
                    new.write(_KEYS.dump_json(keys, indent=2))
                os.replace(new.name, self.path)  # noqa: PTH105 - `Path.replace` is the same
        except OSError as error:
            raise BadKeys(f"{self.path}: {error.strerror}") from None
