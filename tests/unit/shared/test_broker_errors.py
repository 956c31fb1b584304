"""Each error reply of the broker is of one kind, which decides what becomes of the bus and of its process."""

import pytest

from shared.bus.connection import (
    BrokerBusy,
    BrokerLostData,
    BrokerRefused,
    GroupExists,
    ScriptMissing,
    error_of,
)

REPLIES = {
    "OOM command not allowed when used memory > 'maxmemory'.": BrokerBusy,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": BrokerBusy,
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": BrokerBusy,
    "NOREPLICAS Not enough good replicas to write.": BrokerBusy,
    "READONLY You can't write against a read only replica.": BrokerBusy,
    "ERR max number of clients reached": BrokerBusy,
    "NOGROUP No such key 'parley:{0}:jobs:vad' or consumer group 'vad'": BrokerLostData,
    "UNBLOCKED the stream key no longer exists": BrokerLostData,
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": BrokerLostData,
    "ERR no such key": BrokerLostData,
    "NOSCRIPT No matching script. Please use EVAL.": ScriptMissing,
    "BUSYGROUP Consumer Group name already exists": GroupExists,
    "NOPERM User edge has no permissions to run the 'flushall' command": BrokerRefused,
    "WRONGPASS invalid username-password pair or user is disabled.": BrokerRefused,
    "ERR unknown command 'XADDD'": BrokerRefused,
}


@pytest.mark.parametrize("reply", REPLIES)
def test_the_kind_of_an_error_reply(reply: str) -> None:
    error = error_of(reply)
    assert type(error) is REPLIES[reply]
    assert str(error) == reply
