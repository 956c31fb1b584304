"""Every metric, in one place; dashboards and alert rules are built from these very objects.

Labels are bounded: never a session, a turn or a person. `stage` is the process that says it: vad, asr, llm, tts or
edge. Times between hosts are taken on the broker's clock. The thresholds of the SLOs are edges of buckets.
"""

from prometheus_client import Counter, Gauge, Histogram

TURN_BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.25, 1.5, 2, 3, 5, 8, 13)
SEGMENT_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.25, 2, 5, 13)
BARGE_IN_BUCKETS_S = (0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.5, 1, 2)
HOP_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2)
QUEUE_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
REALTIME_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 3)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# -- turns, as the edge sees them -----------------------------------------------------------------

turn_latency = Histogram(
    "parley_turn_latency_seconds",
    "End of speech, or the client's word that it is over, to the first reply audio that left the edge.",
    ["protocol"],
    buckets=TURN_BUCKETS_S,
)
turn_heard_latency = Histogram(
    "parley_turn_heard_latency_seconds",
    "The same to the first reply audio that the client played, where it reports that.",
    ["protocol"],
    buckets=TURN_BUCKETS_S,
)
turn_segment = Histogram(
    "parley_turn_segment_seconds",
    "Part of a turn's waterfall, by the stage and the engine that it was spent in.",
    ["segment", "stage", "engine"],
    buckets=SEGMENT_BUCKETS_S,
)
turns_total = Counter(
    "parley_turns_total",
    "Turns that were to be answered, also typed ones and the agent's own: completed, interrupted, cancelled (the client "
    "did not want the reply, or left), failed or empty.",
    ["outcome"],
)
barge_in = Histogram(
    "parley_barge_in_seconds",
    "First sample of speech into a reply to the message that silences it, where it is set to do so at once.",
    ["protocol"],
    buckets=BARGE_IN_BUCKETS_S,
)
speculations_begun = Counter("parley_speculations_begun_total", "Pauses at which a reply was prepared.")
resumes = Counter("parley_resumes_total", "Replies that went on after an interruption that was none.")
speculations = Counter(
    "parley_speculations_total",
    "Replies begun before the turn was over, by what came of them: reused, redone or wasted.",
    ["outcome"],
)
wasted_work = Counter(
    "parley_wasted_work_seconds_total",
    "Time that a worker gave to work that was cut off, as unwanted by then.",
    ["stage"],
)

# -- sessions -------------------------------------------------------------------------------------

sessions_active = Gauge("parley_sessions_active", "Sessions that this edge serves.", ["protocol"])
sessions_total = Counter(
    "parley_sessions_total",
    "Sessions by how they ended: left (by the client), closed (by the edge, as it is meant to be) or failed (a fault, or "
    "the server or its broker went away).",
    ["protocol", "outcome"],
)
sessions_refused = Counter("parley_sessions_refused_total", "Sessions that were refused, by reason.", ["reason"])
session_setup = Histogram(
    "parley_session_setup_seconds",
    "The client's wish to begin to its session's first entry, read back from the broker.",
    ["protocol"],
    buckets=SEGMENT_BUCKETS_S,
)
closes = Counter(
    "parley_websocket_closes_total",
    "Connections by the code that the edge closed them with, or `client`.",
    ["protocol", "code"],
)
audio_seconds = Counter(
    "parley_audio_seconds_total",
    "Audio by direction: in, or out, where sound that is sent again after a pause counts again.",
    ["direction", "protocol"],
)
underruns = Counter(
    "parley_playback_underruns_total", "Times that a client had played all of a reply before the next of it came.",
    ["protocol"],
)  # fmt: skip
dropped = Counter("parley_dropped_total", "Data that was dropped, by reason.", ["reason"])

# -- workers --------------------------------------------------------------------------------------

work_done = Counter("parley_work_total", "Pieces of work by how they ended.", ["stage", "outcome"])
work_busy = Gauge("parley_work_in_hand", "Pieces of work that this process has in hand.", ["stage"])
slots = Gauge("parley_slots", "Pieces of work that this process takes at once.", ["stage"])
queue_wait = Histogram(
    "parley_queue_wait_seconds",
    "From the making of a piece of work to the worker that took it first.",
    ["stage"],
    buckets=QUEUE_BUCKETS_S,
)
stage_duration = Histogram(
    "parley_stage_duration_seconds",
    "From the taking of a piece of work to its end, where it was done.",
    ["stage", "engine"],
    buckets=TURN_BUCKETS_S,
)
realtime_factor = Histogram(
    "parley_realtime_factor_ratio",
    "Seconds of work for a second of audio: below 1 it keeps up.",
    ["stage", "engine"],
    buckets=REALTIME_BUCKETS,
)
batch_size = Histogram(
    "parley_batch_size", "Sessions that went into one call of a model.", ["stage"], buckets=BATCH_BUCKETS
)
reclaims = Counter(
    "parley_reclaims_total", "Work that a worker let go of, by silence or by handing it back, taken over.", ["stage"]
)
leases_lost = Counter("parley_leases_lost_total", "Work that another worker took from this one.", ["stage"])
dead_letters = Counter("parley_dead_letters_total", "Work that was given up after its last attempt.", ["stage"])
bad_frames = Counter("parley_bad_frames_total", "Entries that were no frame of ours, set aside.", ["stage"])

# -- each process and its way to the broker -------------------------------------------------------

publish_seconds = Histogram(
    "parley_bus_publish_seconds",
    "From the first command of a gathered write to the broker's answer.",
    ["stage"],
    buckets=HOP_BUCKETS_S,
)
read_seconds = Histogram(
    "parley_bus_read_seconds",
    "From the writing of an entry, on the broker's clock, to its reader.",
    ["stage"],
    buckets=HOP_BUCKETS_S,
)
clock_skew = Gauge(
    "parley_clock_skew_seconds", "This host's clock less the broker's, corrected for in all other times.", ["stage"]
)
reconnects = Counter("parley_broker_reconnects_total", "Connections to the broker that broke.", ["stage"])
loop_lag = Histogram(
    "parley_event_loop_lag_seconds", "How much later than asked for the event loop woke up.", ["stage"],
    buckets=HOP_BUCKETS_S,
)  # fmt: skip
build_info = Gauge("parley_build_info", "1; what runs here.", ["stage", "version", "python", "engine"])

# -- the broker and the stages, as each edge sees them: take the maximum over edges ------------------

ready_workers = Gauge("parley_ready_workers", "Workers of a stage that say that they are ready.", ["stage"])
queue_age = Gauge("parley_queue_age_seconds", "Age of the oldest work that no worker has taken.", ["stage"])
oldest_pending = Gauge(
    "parley_stream_oldest_pending_seconds", "Longest silence of a worker over work that it has in hand.", ["stream"]
)
stream_length = Gauge("parley_stream_length", "Entries of a shared stream.", ["stream"])
stream_lag = Gauge("parley_stream_lag", "Entries of a jobs stream that no worker has taken.", ["stream"])
broker_up = Gauge("parley_broker_up", "1 while the broker answers this edge.", ["stage"])
broker_memory = Gauge("parley_broker_memory_bytes", "Memory that the broker's data takes.", ["stage"])
broker_memory_limit = Gauge("parley_broker_memory_limit_bytes", "Its maxmemory, or the machine's memory.", ["stage"])
broker_clients = Gauge("parley_broker_clients", "Connections that the broker has.", ["stage"])
broker_commands = Gauge("parley_broker_commands_per_second", "Commands that the broker does.", ["stage"])
broker_keys = Gauge("parley_broker_keys", "Keys that the broker holds.", ["stage"])

# -- usage: what providers of models bill, and operators of their own plan by ------------------------

llm_tokens = Counter(
    "parley_llm_tokens_total",
    "Tokens of replies, as far as the engine knows them: prompt (read anew), cached (the rest of the prompt) and reply.",
    ["engine", "direction"],
)
llm_first_token = Histogram(
    "parley_llm_first_token_seconds",
    "From the chat model's being asked to its first token, without queue and bus.",
    ["engine"],
    buckets=SEGMENT_BUCKETS_S,
)
tts_characters = Counter("parley_tts_characters_total", "Characters that were given to be spoken.", ["engine"])
asr_seconds = Counter("parley_asr_seconds_total", "Audio that was given to be recognised.", ["engine"])
endpoint_requests = Counter(
    "parley_endpoint_requests_total",
    "Requests to an endpoint, first or fallback, by outcome: done, cancelled (nobody wanted it any more), timeout, limited "
    "(too many requests), refused (what was asked, or the key) or failed.",
    ["stage", "endpoint", "outcome"],
)

# -- GPUs, filled in by `shared.observability.gpu` where there are any ----------------------------------------------

gpu_utilization = Gauge("parley_gpu_utilization_ratio", "Share of time in which the GPU ran anything.", ["gpu"])
gpu_memory_used = Gauge("parley_gpu_memory_used_bytes", "Memory of the GPU in use, by all.", ["gpu"])
gpu_memory_total = Gauge("parley_gpu_memory_total_bytes", "Memory of the GPU.", ["gpu"])
gpu_process_memory = Gauge("parley_gpu_process_memory_bytes", "Memory of the GPU that this process has.", ["gpu"])
gpu_power = Gauge("parley_gpu_power_watts", "Power that the GPU draws.", ["gpu"])
gpu_temperature = Gauge("parley_gpu_temperature_celsius", "Temperature of the GPU.", ["gpu"])
gpu_xid_errors = Counter("parley_gpu_xid_errors_total", "Errors that the GPU's driver reported.", ["gpu"])


def start_at_zero(stage: str) -> None:
    """Bring the counters of this process into being: `rate` does not see the step of one that first appears at 1."""
    for counter in (reclaims, leases_lost, dead_letters, bad_frames, reconnects, wasted_work):
        counter.labels(stage)
    if stage != "edge":
        for outcome in ("done", "stale", "failed", "lost", "dead", "handed_back"):
            work_done.labels(stage, outcome)
        return
    for outcome in ("completed", "interrupted", "cancelled", "failed", "empty"):
        turns_total.labels(outcome)
    for outcome in ("reused", "redone", "wasted"):
        speculations.labels(outcome)
    for reason in ("stopping", "broker", "full", "no_worker", "behind"):
        sessions_refused.labels(reason)
