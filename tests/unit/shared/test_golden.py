"""What earlier releases wrote still decodes, what later ones add is ignored, and no change of the format goes unnoticed."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest

from services.vad.listener import Listener
from shared.bus.leases import Wait
from shared.protocol.session import SessionSettings
from tests.support.golden import DECODERS, FOLDER, UNRELEASED, plain, record

RELEASES = sorted(path for path in FOLDER.glob("*.json") if path != UNRELEASED)
HOW = """
The bytes of {kinds} have changed. Processes of two releases share a broker during an update, so only this is allowed:
new kinds, and new fields at the end, with a default. Is that all that you changed? Then run
    python -m tests.support.golden
and commit tests/unit/shared/golden/unreleased.json with your change. Otherwise keep the old field, and add a new one."""


def golden(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return found


def begins_with(value: Any, golden: Any) -> bool:
    """Whether the value has all that the golden one has, in its place. Names are not on the wire, and may change."""
    if isinstance(golden, dict) and isinstance(value, dict):
        return all(begins_with(ours, theirs) for ours, theirs in zip(value.values(), golden.values(), strict=False))
    if isinstance(golden, list):
        return len(value) == len(golden) and all(begins_with(*pair) for pair in zip(value, golden, strict=True))
    return bool(value == golden)


def test_there_is_a_record_of_the_first_release() -> None:
    assert [int(path.stem) for path in RELEASES] == list(range(1, len(RELEASES) + 1))


@pytest.mark.parametrize("path", [*RELEASES, UNRELEASED], ids=lambda path: path.stem)
def test_what_a_release_wrote_decodes_to_what_it_was(path: Path) -> None:
    for kind, kept in golden(path).items():
        decoded = plain(DECODERS[kind](bytes.fromhex(kept["bytes"])))
        assert begins_with(decoded, kept["value"]), f"{kind} of release {path.stem} is now {decoded}"


def test_a_changed_format_is_recorded() -> None:
    now, recorded = record(), golden(UNRELEASED)
    changed = {kind for kind in now.keys() | recorded.keys() if now.get(kind) != recorded.get(kind)}
    assert not changed, HOW.format(kinds=", ".join(sorted(changed)))


@pytest.mark.parametrize(("before", "after"), list(pairwise([*RELEASES, UNRELEASED])), ids=lambda path: path.stem)
def test_a_format_only_grows(before: Path, after: Path) -> None:
    """An older process reads a later one's bytes: what it knows is in its place, and kinds do not vanish."""
    old, new = golden(before), golden(after)
    assert not old.keys() - new.keys()
    for kind in old:
        assert begins_with(new[kind]["value"], old[kind]["value"]), HOW.format(kinds=kind)


@pytest.mark.parametrize("kind", list(record()))
def test_one_more_field_of_a_later_release_is_ignored(kind: str) -> None:
    kept = record()[kind]
    read = msgpack.unpackb(bytes.fromhex(kept["bytes"]))
    if isinstance(read, dict):
        later: Any = {**read, "later": 1}
    else:
        later = [[*read[0], "later"]] if kind != "TurnRecord" else [*read, "later"]
    assert plain(DECODERS[kind](msgpack.packb(later))) == kept["value"]


def test_a_later_checkpoint_and_wait_are_read() -> None:
    listener = Listener("s", SessionSettings(), 0.0)
    accepted, replay_from, sent, turn, speaker = msgpack.unpackb(listener.checkpoint([0.5]))
    later = msgpack.packb([accepted, replay_from, sent, [*turn, 7], speaker, (), "later"])
    assert listener.restore(later, SessionSettings()) == [0.5]
    assert Wait.of({"awaited": "url", "reason": "refused", "seconds": 1, "later": 2}) == Wait("url", "refused", 1)
