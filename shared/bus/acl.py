"""What each role may do at the broker: its commands, and the ACL file that allows them and nothing else."""

from collections.abc import Mapping
from hashlib import sha256

from shared.settings import STAGES

KEYS, CHANNELS = "~parley:*", "&parley:*"

_BUS = {
    "client|setname", "eval", "evalsha", "expire", "get", "info", "script|load", "select", "set", "time", "xadd", "xrange",
    "xread",
}  # fmt: skip
"""Commands of every process with a bus."""
_WORKER = _BUS | {
    "del", "exists", "hdel", "hget", "hgetall", "hset", "publish", "pubsub|numsub", "subscribe", "unlink", "xack",
    "xautoclaim", "xclaim", "xdel", "xgroup|create", "xgroup|delconsumer", "xinfo|consumers", "xinfo|groups", "xpending",
    "xreadgroup", "xrevrange", "zadd", "zrangebyscore", "zrem",
}  # fmt: skip
_EDGE = _BUS | {
    "dbsize", "del", "exists", "expireat", "hdel", "hget", "hgetall", "hset", "hsetnx", "incr", "publish",
    "pubsub|numsub", "subscribe", "unlink", "xinfo|groups", "xlen", "xpending", "xrevrange", "xtrim", "zrangebyscore",
}  # fmt: skip
_DOCTOR = _BUS | {"exists", "ping", "xdel", "xrevrange"}

COMMANDS: dict[str, set[str]] = {
    **dict.fromkeys(STAGES, _WORKER),
    "edge": _EDGE,
    "doctor": _DOCTOR,
    "parley": _WORKER | _EDGE | _DOCTOR,
}
"""The users of an ACL file by role, and the commands of each. `doctor`: for `parley doctor` and `parley dead`; `parley`:
for `parley up`, whose processes share one URL."""


def acl_file(passwords: Mapping[str, str]) -> str:
    """Return the lines of an ACL file with a user for each role of `passwords`; nobody connects without a password."""
    users = (_user(role, password) for role, password in passwords.items())
    return "".join(f"{line}\n" for line in ("user default off resetpass resetkeys resetchannels -@all", *users))


def _user(role: str, password: str) -> str:
    digest = sha256(password.encode()).hexdigest()
    commands = " ".join(f"+{command}" for command in sorted(COMMANDS[role]))
    return f"user {role} on #{digest} resetkeys {KEYS} resetchannels {CHANNELS} -@all {commands}"
