"""`parley top` and `parley turns`: what they draw of unusual figures, and their errors for unusual answers."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.console import Console

from deploy.monitor.drawing import LEFT_OF_BAR, waterfall
from deploy.monitor.top import picture, run_top
from deploy.monitor.turns import run_turns
from services.edge.http.monitor.snapshot import snapshot, turn_row
from shared.bus.leases import StageStatus
from shared.bus.status import BrokerStatus
from shared.protocol.turn_record import TurnRecord

Answering = Callable[[int, str], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """`answering(status, body)`: the URL of a server that answers every request with these."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def use(status: int, body: str) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body.encode())

                def log_message(self, *args: object) -> None:
                    pass

            server.RequestHandlerClass = Handler
            return f"http://127.0.0.1:{server.server_port}"

        yield use
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            404,
            '{"detail": "Not Found"}',
            "is off, or open only to its own machine: PARLEY_MONITOR=on opens it",
        ),
        (404, "<html>", "is not a Parley with a monitor (HTTP 404)"),
        (200, "hello", "is not a Parley with a monitor (HTTP 200)"),
        (200, "[1]", "is not a Parley with a monitor"),
        (200, "{}", "is not a Parley of this version"),
        (200, '{"turns": 5}', "is not a Parley of this version"),
        (503, '{"error": {"message": "the broker is not reachable"}}', "the broker is not reachable"),
        (500, '{"error": "?"}', "answers HTTP 500"),
    ],
)
def test_an_answer_without_figures_is_an_error_of_one_line(
    status: int, body: str, message: str, answering: Answering, capsys: pytest.CaptureFixture[str]
) -> None:
    url = answering(status, body)
    codes = [
        run_top(url, once=True, as_json=False),
        run_turns(url, "one", as_json=False),
        run_turns(url, None, as_json=False),
    ]
    out, err = capsys.readouterr()
    assert (codes, out) == ([1, 1, 1], "")
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(message in line for line in lines)


def text(data: dict[str, object], width: int = 140) -> str:
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(picture(data))
    return capture.get()


def system(turns: int = 0, **changes: object) -> dict[str, object]:
    marks = {"paused": 160.0, "endpoint": 500.0, "transcript": 230.0, "first_audio": 1504.0}
    record = TurnRecord("session-1", 3, 1, "stream", "cascade", "completed", 0, 900, 1000, "", True, marks)
    gpu = {"index": "0", "name": "[bold]", "utilization": None, "memory_used": 3 << 30}
    asr = StageStatus(
        ({"consumer": "asr:h:1:x", "engine": "e"},), 12, 0, {"asr:h:1:x": {"slots": 4, "in_hand": 4, "gpus": [gpu]}}
    )
    values: dict[str, object] = {
        "now_ms": 1, "statuses": {"asr": asr}, "broker": BrokerStatus("redis 7", 1 << 20, 2 << 30, 3, 4, 5, ()),
        "turns": [turn_row(f"{n}-0", record) for n in range(turns)], "sessions": (), "refusal": None, "queue_age_limit_ms": 2000,
    }  # fmt: skip
    found: dict[str, object] = json.loads(json.dumps(snapshot(**{**values, **changes})))  # type: ignore[arg-type]
    return found


def test_unknown_figures_are_drawn_as_such() -> None:
    seen = text(system(turns=20))
    for words in (
        "redis 7, 1 MiB of 2.0 GiB",
        "fully used",
        "4 of 4",
        "unknown",
        "[bold]",
        "3.0 GiB of –",
        "1504 ms",
        "░",
    ):
        assert words in seen, words
    nothing = text(system(broker=None, refusal="the broker is not reachable"))
    for words in (
        "broker not reachable",
        "new conversations are refused: the broker",
        "no finished turn yet",
        "no spoken turn with a reply yet",
        "no conversations",
    ):
        assert words in nothing, words


def test_it_fits_into_80_columns() -> None:
    assert "…" not in text(system(turns=1), width=80)


def test_a_conversation_without_turns_says_so(answering: Answering, capsys: pytest.CaptureFixture[str]) -> None:
    url = answering(200, '{"turns": []}')
    assert run_turns(url, "one", as_json=False) == 0
    assert run_turns(url, None, as_json=False) == 0
    assert capsys.readouterr().out == "no finished turn in this conversation yet\nno finished turn yet\n"


@pytest.fixture
def knowing() -> Iterator[str]:
    """The URL of a monitor with the conversations abc1 and abd2."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {f"/monitor/sessions/{session}/data": {"turns": []} for session in ("abc1", "abd2")}
            known["/monitor/data"] = {"turns": [{"session": "abc1"}], "sessions": {"newest": [{"id": "abd2"}]}}
            found = known.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found or {"error": {"message": f"no session {self.path}"}}).encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("said", "meant"), [("abc1", "abc1"), ("abc", "abc1"), ("abd", "abd2"), ("ab", ""), ("x", "")])
def test_the_beginning_of_an_id_is_enough(
    said: str, meant: str, knowing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_turns(knowing, said, as_json=True) == (0 if meant else 1)
    out, err = capsys.readouterr()
    if meant:
        assert json.loads(out)["session"] == meant
    else:
        assert err == f"no session /monitor/sessions/{said}/data\n"


def part(name: str, begin_ms: float, end_ms: float) -> dict[str, object]:
    return {"name": name, "begin_ms": begin_ms, "end_ms": end_ms}


def test_bars_are_on_one_time_axis() -> None:
    turn = [
        part("endpoint", 0, 500),
        part("first_token", 250, 500),
        part("first_audio", 500, 1000),
        part("new", 1000, 1000),
    ]
    assert waterfall(turn, LEFT_OF_BAR + 10) == [
        "Endpoint          500 ms, done at   500 ms  ▇▇▇▇▇",
        "First token       250 ms, done at   500 ms*   ▇▇▇",
        "First audio       500 ms, done at  1000 ms       ▇▇▇▇▇",
        "new                 0 ms, done at  1000 ms            ▏",
        "* prepared in the silence",
    ]
    assert max(map(len, waterfall(turn, 60))) <= 60
    assert waterfall([]) == []
    assert waterfall([part("release", -5, -2)]) == ["Sending             3 ms, done at    -2 ms  ▏"]


def test_percentiles_are_of_the_spoken_turns() -> None:
    few, many = text(system(turns=1)), text(system(turns=20))
    assert "first audio sent p50 1504 ms, slowest 1504 ms over 1 spoken turn\n" in few
    assert "p95 1504 ms over 20 spoken turns" in many
    assert "p95" not in few
