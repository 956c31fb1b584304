"""What each protocol accepts as a setting of a session: the ranges of the table, to their ends, and whatever it showed."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.edge.client.actions import Close, Configure, Send, Start
from services.edge.client.events import Ready
from services.edge.protocols.realtime.session import WAITS_MS_BY_EAGERNESS
from services.edge.protocols.session_settings import described_settings, shown_settings
from services.edge.protocols.stream import StreamCodec
from services.edge.protocols.twilio import TwilioCodec
from shared.protocol.session import SESSION_TABLE, SessionSettings, with_fitting_pause
from shared.settings_table import Row
from tests.support.agents import one_agent
from tests.support.realtime_client import Client, updated
from tests.unit.edge.test_twilio import begin

PERMISSIVE = SessionSettings(endpoint_ms=5000)
"""Its endpoint lets every pause be set."""

REALTIME: dict[str, tuple[str, ...]] = {
    "threshold": ("audio", "input", "turn_detection", "threshold"),
    "preroll_ms": ("audio", "input", "turn_detection", "prefix_padding_ms"),
    "endpoint_ms": ("audio", "input", "turn_detection", "silence_duration_ms"),
    "idle_ms": ("audio", "input", "turn_detection", "idle_timeout_ms"),
    "create_reply": ("audio", "input", "turn_detection", "create_response"),
    "interrupt_reply": ("audio", "input", "turn_detection", "interrupt_response"),
    "language": ("audio", "input", "transcription", "language"),
    "hints": ("audio", "input", "transcription", "prompt"),
    "speed": ("audio", "output", "speed"),
    "voice": ("audio", "output", "voice"),
    "instructions": ("instructions",),
}
"""Where the session object of Realtime has a setting."""


def values(row: Row) -> st.SearchStrategy[Any]:
    """Any value that the table allows."""
    low, high = row.setting.low, row.setting.high
    match row.type:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(int(low or 0), int(high or 0))
        case "number":
            return st.floats(low, high)
        case _ if row.choices:
            return st.sampled_from(row.choices)
        case _ if row.setting.pattern:
            return st.from_regex(row.setting.pattern, fullmatch=True).filter(lambda text: len(text) <= 35)
        case _:
            return st.text(max_size=min(row.setting.longest or 0, 60))


any_settings = st.builds(SessionSettings, **{name: values(row) for name, row in SESSION_TABLE.items()}).map(
    with_fitting_pause
)


def ends(row: Row) -> tuple[list[Any], list[Any]]:
    """Values at the ends of what is allowed, and the nearest ones that are not."""
    low, high = row.setting.low, row.setting.high
    if low is not None and high is not None:
        if row.type == "integer":
            return [int(low), int(high)], [int(low) - 1, int(high) + 1, low + 0.5, str(low), True, None]
        return [low, high], [low - 0.001, high + 0.001, "1", True, None]
    if row.type == "boolean":
        return [True, False], [0, 1, "true", None]
    if row.choices:
        return list(row.choices), ["", "other", None]
    if row.setting.pattern:
        return ["en", "en-" + "-".join(["abcdefg"] * 4)], ["", "e", "en_US", "en\n", "en-" + "-".join(["abcdefgh"] * 4)]
    longest = row.setting.longest or 0
    return ["", "x" * longest], ["x" * (longest + 1), 1, None, ["x"]]


def configured(codec: StreamCodec, config: dict[str, Any]) -> SessionSettings | str:
    """The settings that a client has after its `configure`; the message where it is refused."""
    (action,) = codec.decode(json.dumps({"type": "configure", "config": config}))
    if isinstance(action, Send):
        return str(json.loads(action.messages[0])["message"])
    assert isinstance(action, Configure)
    return action.settings


def started(defaults: SessionSettings) -> StreamCodec:
    codec = StreamCodec(16_000, defaults)
    assert codec.decode('{"type":"start_streaming"}') == (Start(defaults),)
    return codec


def session_object(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


@pytest.mark.parametrize("row", SESSION_TABLE.values(), ids=SESSION_TABLE)
def test_the_lean_protocol_takes_a_range_to_its_ends(row: Row) -> None:
    allowed, outside = ends(row)
    for value in allowed:
        found = configured(started(PERMISSIVE), {row.name: value})
        assert isinstance(found, SessionSettings), found
        assert getattr(found, row.name) == value
    for value in outside:
        message = configured(started(PERMISSIVE), {row.name: value})
        assert isinstance(message, str), value
        assert message.startswith(f"config.{row.name}: ")
        assert message.endswith(f" is not {row.allowed}")


@pytest.mark.parametrize("row", [SESSION_TABLE[name] for name in REALTIME], ids=REALTIME)
def test_realtime_takes_a_range_to_its_ends(row: Row) -> None:
    allowed, outside = ends(row)
    path = REALTIME[row.name]
    for value in allowed:
        echo, found = updated(Client(PERMISSIVE), **session_object(path, value))
        for name in path:
            echo = echo[name]
        assert echo == value
        if value and row.name != "voice":  # a voice that no engine has is answered by the default
            assert getattr(found, row.name) == value
    for value in outside:
        if value is not None:  # null is the same as absent there
            error = Client(PERMISSIVE).error(
                "session.update", session={"type": "realtime", **session_object(path, value)}
            )
            assert error["param"] == ".".join(("session", *path)), value


@pytest.mark.parametrize("row", SESSION_TABLE.values(), ids=SESSION_TABLE)
def test_a_phone_call_takes_a_range_to_its_ends_as_text(row: Row) -> None:
    allowed, outside = ends(row)
    if row.name == "voice" or row.setting.longest:
        outside = outside[:1]
    for value in allowed:
        text = value if isinstance(value, str) else json.dumps(value)
        (action,) = TwilioCodec(one_agent(PERMISSIVE)).decode(json.dumps(begin(**{row.name: text})))
        assert isinstance(action, Start), action
        assert getattr(action.settings, row.name) == value
    for value in outside[:2] if row.type != "boolean" else ["maybe"]:
        text = value if isinstance(value, str) else json.dumps(value)
        (closed,) = TwilioCodec(one_agent(PERMISSIVE)).decode(json.dumps(begin(**{row.name: text})))
        assert isinstance(closed, Close)
        assert closed.reason.startswith(f"customParameters.{row.name}: ")


@settings(max_examples=150, deadline=None)
@given(defaults=any_settings)
def test_the_lean_protocol_takes_back_what_it_showed(defaults: SessionSettings) -> None:
    codec = StreamCodec(16_000, defaults)
    (ready,) = codec.encode(Ready("s", defaults))
    shown = json.loads(ready)["config"]
    assert set(shown) == set(SESSION_TABLE)
    assert StreamCodec(16_000, SessionSettings()).decode(json.dumps({"type": "start_streaming", "config": shown})) == (
        Start(defaults),
    )
    codec = started(defaults)
    for name, value in shown.items():
        assert configured(codec, {name: value}) == defaults


@settings(max_examples=150, deadline=None)
@given(defaults=any_settings)
def test_realtime_takes_back_what_it_showed(defaults: SessionSettings) -> None:
    client = Client(defaults, ready=False)
    (created,) = client.tell(Ready("sess_x", defaults))
    shown = created["session"]
    echo, found = updated(client, **{name: value for name, value in shown.items() if name != "type"})
    assert {**echo, "id": shown["id"]} == shown
    # Detection by silence is the constant, whatever the default says of an engine that adapts it.
    assert found == (replace(defaults, adapt_endpoint=False) if defaults.detect_turns else defaults)
    for name, path in REALTIME.items():
        value: Any = shown
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            assert updated(client, **session_object(path, value))[1] == found, name


@settings(max_examples=50, deadline=None)
@given(defaults=any_settings)
def test_the_page_is_shown_the_table_with_the_servers_defaults(defaults: SessionSettings) -> None:
    described = {one["name"]: one for one in described_settings(defaults, ("anna", "bert"))}
    assert list(described) == list(SESSION_TABLE)
    assert {name: one["default"] for name, one in described.items()} == shown_settings(defaults)
    assert described["voice"]["choices"] == ["", "anna", "bert"]
    assert "choices" not in described_settings(defaults, ())[list(SESSION_TABLE).index("voice")]
    for name, row in SESSION_TABLE.items():
        assert (described[name].get("min"), described[name].get("max")) == (row.setting.low, row.setting.high)
        assert described[name].get("label", "") == row.setting.page


def test_what_eagerness_means_is_in_range() -> None:
    for waits in WAITS_MS_BY_EAGERNESS.values():
        for name, value in zip(("endpoint_ms", "complete_ms", "incomplete_ms"), waits, strict=True):
            assert SESSION_TABLE[name].check(value) == value


def test_a_pause_that_was_named_is_not_shortened_silently() -> None:
    assert configured(started(SessionSettings()), {"endpoint_ms": 120}) == SessionSettings(
        endpoint_ms=120, pause_ms=120
    )
    message = configured(started(SessionSettings()), {"endpoint_ms": 120, "pause_ms": 160})
    assert message == "config.pause_ms: 160 is not a whole number from 60 to endpoint_ms (120)"
