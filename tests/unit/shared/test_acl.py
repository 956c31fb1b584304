"""The ACL file allows every command that the bus sends, and no dangerous one."""

import re
from pathlib import Path

import pytest

from shared.bus.acl import COMMANDS, acl_file

BUS = Path(__file__).parents[3] / "shared/bus"
ALWAYS = {"auth"}
COMMAND = re.compile(r"""(?:call|send|redis\.p?call)\(\s*b?["']([A-Z]+)["'](?:,\s*b?["']([A-Z]+)["'])?""")
WITH_SUBCOMMANDS = {"CLIENT", "XGROUP", "XINFO", "PUBSUB", "SCRIPT", "ACL", "CONFIG"}
DANGEROUS = {"flushall", "flushdb", "keys", "scan", "config", "shutdown", "debug", "acl", "monitor"}


def sent_commands() -> set[str]:
    """The commands in the code and the scripts of the bus, as an ACL names them."""
    found = COMMAND.findall("".join(path.read_text() for path in BUS.glob("*.py")))
    return {(f"{name}|{sub}" if name in WITH_SUBCOMMANDS else name).lower() for name, sub in found}


def test_every_command_of_the_bus_is_allowed_to_somebody() -> None:
    assert len(sent_commands()) > 30
    assert sent_commands() - COMMANDS["parley"] == ALWAYS


@pytest.mark.parametrize("role", COMMANDS)
def test_no_role_may_use_a_dangerous_command(role: str) -> None:
    names = {command.partition("|")[0] for command in COMMANDS[role]}
    assert not names & DANGEROUS
    assert {command for command in COMMANDS[role] if command.startswith("script")} == {"script|load"}


def test_a_file_has_digests_and_no_passwords() -> None:
    text = acl_file({"edge": "secret", "tts": "other"})
    first, *users = text.splitlines()
    assert first.startswith("user default off")
    assert [line.split()[1] for line in users] == ["edge", "tts"]
    assert "secret" not in text
    assert all("~parley:* resetchannels &parley:* -@all" in line for line in users)
