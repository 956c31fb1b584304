"""What the processes tell of themselves while people talk: scraped as Prometheus would, from the real ones."""

import asyncio
import subprocess
from collections import defaultdict
from collections.abc import Callable

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from shared.bus.bus import Bus
from shared.bus.status import broker_status
from shared.settings import Settings
from tests.conftest import need
from tests.support.caller import calling
from tests.support.system import System
from tests.support.waiting import HANG_S

PROCESSES = ("vad", "asr", "llm", "tts", "edge")
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

Samples = dict[str, dict[str, float]]
"""By process, then by `name{label=value,…}` with sorted labels."""


async def scrape(first_port: int) -> Samples:
    found: Samples = {}
    async with httpx.AsyncClient(timeout=HANG_S, trust_env=False) as client:
        for number, name in enumerate(PROCESSES):
            text = (await client.get(f"http://127.0.0.1:{first_port + number}/metrics")).text
            samples = [sample for family in parse(text) for sample in family.samples]
            found[name] = defaultdict(float)
            for sample in samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                found[name][f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def scrape_at_rest(first_port: int) -> Samples:
    """The samples when no session is open, and no worker has work in hand."""
    async with asyncio.timeout(HANG_S):
        while True:
            found = await scrape(first_port)
            sessions = sum(value for name, value in found["edge"].items() if name.startswith("parley_sessions_active{"))
            if not sessions + sum(found[stage][f"parley_work_in_hand{{stage={stage}}}"] for stage in PROCESSES[:4]):
                return found
            await asyncio.sleep(0.1)


async def test_a_conversation_is_told_by_every_process(
    parley_server: System, metrics_port: int, speech_pcm: Callable[[str, int], bytes]
) -> None:
    words = speech_pcm("hello there how are you today my friend", 16_000)
    before = await scrape_at_rest(metrics_port)
    async with calling(parley_server.url) as caller:
        await caller.speak(words, silence_s=0.7)
        await caller.until("timing", turn=1)
        await caller.send("played", turn=1, ms=50)
        await caller.speak(words, silence_s=0.1)  # into the reply
        await caller.until("pause")
        await caller.speak(b"", silence_s=0.8)
        await caller.until("reply_done", turn=2)
    after = await scrape_at_rest(metrics_port)

    def rose(process: str, sample: str) -> float:
        return after[process][sample] - before[process][sample]

    assert rose("edge", "parley_turn_latency_seconds_count{protocol=stream}") == 2
    assert rose("edge", "parley_turn_heard_latency_seconds_count{protocol=stream}") == 1
    assert rose("edge", "parley_barge_in_seconds_count{protocol=stream}") == 1
    assert 0.05 < rose("edge", "parley_barge_in_seconds_sum{protocol=stream}") < 5
    assert rose("edge", "parley_turns_total{outcome=interrupted}") == 1
    for segment, stage, engine in (
        ("endpoint", "vad", "webrtc"),
        ("transcript", "asr", "scripted"),
        ("first_token", "llm", "scripted"),
        ("first_sentence", "llm", "scripted"),
        ("first_audio", "tts", "scripted"),
        ("release", "edge", ""),
    ):
        labels = f"engine={engine},segment={segment},stage={stage}"
        assert rose("edge", f"parley_turn_segment_seconds_count{{{labels}}}") == 2, segment
    assert rose("edge", "parley_sessions_total{outcome=left,protocol=stream}") == 1
    assert rose("edge", "parley_session_setup_seconds_count{protocol=stream}") == 1
    assert rose("edge", "parley_websocket_closes_total{code=client,protocol=stream}") == 1
    assert 2 < rose("edge", "parley_audio_seconds_total{direction=in,protocol=stream}") < 10
    assert rose("edge", "parley_audio_seconds_total{direction=out,protocol=stream}") > 0.5
    assert after["edge"]["parley_sessions_active{protocol=stream}"] == before["edge"][
        "parley_sessions_active{protocol=stream}"
    ]  # fmt: skip
    for stage in PROCESSES[:4]:
        assert rose(stage, f"parley_work_total{{outcome=done,stage={stage}}}") >= 1
        assert rose(stage, f"parley_queue_wait_seconds_count{{stage={stage}}}") >= 1
        assert rose(stage, f"parley_bus_publish_seconds_count{{stage={stage}}}") >= 1
        assert after["edge"][f"parley_ready_workers{{stage={stage}}}"] == 1
        assert after["edge"][f"parley_stream_lag{{stream=jobs:{stage}}}"] == 0
        assert after[stage][f"parley_work_in_hand{{stage={stage}}}"] == 0
        assert after[stage][f"parley_slots{{stage={stage}}}"] > 0
    for name in PROCESSES:
        assert rose(name, f"parley_event_loop_lag_seconds_count{{stage={name}}}") > 4
        assert abs(after[name][f"parley_clock_skew_seconds{{stage={name}}}"]) < 0.1  # one host: one clock
        assert any(sample.startswith("parley_build_info") for sample in after[name])
    assert rose("tts", "parley_realtime_factor_ratio_count{engine=scripted,stage=tts}") >= 1
    assert after["edge"]["parley_broker_up{stage=edge}"] == 1
    assert after["edge"]["parley_broker_memory_bytes{stage=edge}"] > 1e5
    assert "parley_broker_up{stage=vad}" not in after["vad"]


def check_metrics(promtool: str, text: str) -> str:
    """What promtool says against them."""
    command = [promtool, "check", "metrics"]
    checked = subprocess.run(command, input=text, capture_output=True, text=True, timeout=HANG_S, check=False)
    return checked.stdout + checked.stderr


async def test_the_names_are_what_prometheus_expects(parley_server: System, metrics_port: int) -> None:
    promtool = need("promtool")
    for number, name in enumerate(PROCESSES):
        url = f"http://127.0.0.1:{metrics_port + number}/metrics"
        async with httpx.AsyncClient(timeout=HANG_S, trust_env=False) as client:
            text = (await client.get(url)).text
            openmetrics = (await client.get(url, headers=OPENMETRICS)).text
        ours = "".join(f"{line}\n" for line in text.splitlines() if "parley_" in line)
        checked = await asyncio.to_thread(check_metrics, promtool, ours)
        assert checked == "", f"{name}: {checked}"
        assert openmetrics.endswith("# EOF\n")
        assert list(parse_openmetrics(openmetrics))
        assert "_created" not in text


async def test_the_broker_tells_of_its_streams(parley_server: System) -> None:
    settings = Settings(redis_url=parley_server.broker_url)  # type: ignore[arg-type]
    async with Bus.connect(settings, "edge") as bus:
        before = int(await bus.call("XLEN", bus.keys.dead("asr")))  # other tests leave some, too
        entry_id = await bus.call("XADD", bus.keys.dead("asr"), "*", "error", "a test")
        try:
            status = await broker_status(bus)
        finally:
            await bus.call("XDEL", bus.keys.dead("asr"), entry_id)
    streams = {stream.name: stream for stream in status.streams}
    assert set(streams) == {f"{kind}:{stage}" for kind in ("jobs", "dead") for stage in PROCESSES[:4]}
    assert streams["dead:asr"].length == before + 1
    assert streams["jobs:llm"].lag == 0
    assert status.server.startswith(("redis ", "valkey "))
    assert status.memory_limit_bytes > status.memory_bytes > 0
    assert status.clients > 5
    assert status.keys > 0
