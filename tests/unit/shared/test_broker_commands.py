"""Only `shared/bus` composes broker commands; everything else uses the bus's methods."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SOURCES = ("shared", "services", "deploy", "benchmarks", "dashboards")
SENDERS = {"call", "send"}
"""Methods of the bus and its connections that take a command, beginning with its name in upper case."""


def broker_commands(code: str) -> Iterator[str]:
    if not any(f".{sender}(" in code for sender in SENDERS):  # most files; parsing all takes seconds
        return
    for node in ast.walk(ast.parse(code)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDERS):
            continue
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str | bytes):
            name = node.args[0].value
            if name.isupper():
                yield name if isinstance(name, str) else name.decode()


def test_only_the_bus_composes_broker_commands() -> None:
    bus = REPOSITORY / "shared/bus"
    files = [file for folder in SOURCES for file in (REPOSITORY / folder).rglob("*.py") if bus not in file.parents]
    assert len(files) > 100
    found = {str(file.relative_to(REPOSITORY)): list(broker_commands(file.read_text())) for file in files}
    assert {file: commands for file, commands in found.items() if commands} == {}


@pytest.mark.parametrize("code", ['await bus.call(b"XREVRANGE", key)', 'self.writer.send("DEL", key)'])
def test_a_broker_command_is_found(code: str) -> None:
    assert list(broker_commands(f"async def work():\n    {code}"))
