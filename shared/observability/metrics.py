"""All metrics. The dashboards and alert rules are built from these objects.

Labels are bounded: never a session, a turn or a person. `stage` is the process that reports: vad, asr, llm, tts or
edge. Times between hosts are measured on the broker's clock. The thresholds of the SLOs are bucket boundaries.
"""

from prometheus_client import Counter, Gauge, Histogram

from shared.protocol.reasons import CUTS, FAILURES

TURN_BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.25, 1.5, 2, 3, 5, 8, 13)
SEGMENT_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.25, 2, 5, 13)
BARGE_IN_BUCKETS_S = (0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.5, 1, 2)
HOP_BUCKETS_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2)
QUEUE_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
REALTIME_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 3)
PROMPT_BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

PROTOCOLS = ("stream", "realtime", "twilio")
"""The values of the label `protocol`."""

# -- turns, as the edge sees them -----------------------------------------------------------------

turn_latency = Histogram(
    "parley_turn_latency_seconds",
    "Voice-to-voice latency: from the end of speech, or the client's manual commit, to the first reply audio sent.",
    ["protocol"],
    buckets=TURN_BUCKETS_S,
)
turn_heard_latency = Histogram(
    "parley_turn_heard_latency_seconds",
    "Time from the end of speech to the first reply audio played by the client. Only for clients that report playback.",
    ["protocol"],
    buckets=TURN_BUCKETS_S,
)
turn_segment = Histogram(
    "parley_turn_segment_seconds",
    "Time of each segment of a turn, by the stage and engine that it was spent in.",
    ["segment", "stage", "engine"],
    buckets=SEGMENT_BUCKETS_S,
)
turns_total = Counter(
    "parley_turns_total",
    "Finished turns that required a reply, including typed turns and the agent's own, by outcome: completed, "
    "interrupted, cancelled (by the client, or because it left), failed, or empty (no words).",
    ["outcome"],
)
turn_reasons = Counter(
    "parley_turn_reasons_total",
    "Finished turns that failed, or whose reply was cut (outcome completed), by reason: stage_failed, turn_deadline, "
    "reply_deadline, no_voice, empty_reply, unknown_tool, prompt_too_long, max_output_tokens or content_filter.",
    ["outcome", "reason"],
)
apologies = Counter(
    "parley_apologies_total",
    "Failed turns of which the agent told the person, by sound: voice, or tone (nobody could speak the sentence beforehand).",
    ["sound"],
)
barge_in = Histogram(
    "parley_barge_in_seconds",
    "Time from the first sample of speech in a reply to the message that silences the client. Only sessions that do so at once.",
    ["protocol"],
    buckets=BARGE_IN_BUCKETS_S,
)
speculations_begun = Counter("parley_speculations_begun_total", "Pauses at which a reply was prepared.")
resumes = Counter("parley_resumes_total", "Replies resumed after a false interruption.")
speculations = Counter(
    "parley_speculations_total",
    "Replies prepared before the end of the turn, by outcome: reused, redone (the turn went on) or wasted (no turn).",
    ["outcome"],
)
wasted_work = Counter(
    "parley_wasted_work_seconds_total",
    "Seconds of work on jobs that were cancelled because their turn was stale.",
    ["stage"],
)

# -- sessions -------------------------------------------------------------------------------------

sessions_active = Gauge("parley_sessions_active", "Sessions in progress on this edge.", ["protocol"])
sessions_total = Counter(
    "parley_sessions_total",
    "Ended sessions by outcome: left (the client closed), closed (the edge closed, as intended), failed (an error, a "
    "stopped server or a lost broker) or suspended (the connection was lost or moved; the client may resume the session).",
    ["protocol", "outcome"],
)
sessions_refused = Counter("parley_sessions_refused_total", "Refused sessions, by reason.", ["reason"])
session_setup = Histogram(
    "parley_session_setup_seconds",
    "Time from the client's request for a session to the session's first log entry, read back from the broker.",
    ["protocol"],
    buckets=SEGMENT_BUCKETS_S,
)
closes = Counter(
    "parley_websocket_closes_total",
    "Closed connections by the edge's close code; `client` if the client closed first.",
    ["protocol", "code"],
)
audio_seconds = Counter(
    "parley_audio_seconds_total",
    "Audio by direction, in or out. Audio that is sent again after a pause counts twice.",
    ["direction", "protocol"],
)
underruns = Counter(
    "parley_playback_underruns_total",
    "Playback gaps: the client had played all audio that it had received of an unfinished reply.",
    ["protocol"],
)
dropped = Counter("parley_dropped_total", "Dropped frames, audio slices and broker replies, by reason.", ["reason"])

# -- workers --------------------------------------------------------------------------------------

work_done = Counter(
    "parley_work_total",
    "Ended jobs by outcome: done, stale (cancelled), failed (handed back for a retry), lost (another worker took the "
    "lease), handed_back (at shutdown) or dead (given up).",
    ["stage", "outcome"],
)
work_busy = Gauge("parley_work_in_hand", "Jobs in progress in this process.", ["stage"])
slots = Gauge("parley_slots", "Maximum number of concurrent jobs of this process.", ["stage"])
queue_wait = Histogram(
    "parley_queue_wait_seconds",
    "Queueing delay: from the creation of a job to its first delivery to a worker.",
    ["stage"],
    buckets=QUEUE_BUCKETS_S,
)
stage_duration = Histogram(
    "parley_stage_duration_seconds",
    "Duration of finished jobs, excluding queueing.",
    ["stage", "engine"],
    buckets=TURN_BUCKETS_S,
)
realtime_factor = Histogram(
    "parley_realtime_factor_ratio",
    "Real-time factor: seconds of processing per second of audio. Below 1 the stage keeps up.",
    ["stage", "engine"],
    buckets=REALTIME_BUCKETS,
)
batch_size = Histogram(
    "parley_batch_size", "Requests in one call of a model, across sessions.", ["stage"], buckets=BATCH_BUCKETS
)
reclaims = Counter(
    "parley_reclaims_total",
    "Jobs taken over: their worker died, stopped renewing the lease, or handed them back.",
    ["stage"],
)
leases_lost = Counter("parley_leases_lost_total", "Jobs of this worker that another worker took over.", ["stage"])
dead_letters = Counter("parley_dead_letters_total", "Jobs given up after their last attempt.", ["stage"])
bad_frames = Counter("parley_bad_frames_total", "Invalid entries or records, dropped or dead-lettered.", ["stage"])

# -- processes and their connections to the broker ------------------------------------------------

publish_seconds = Histogram(
    "parley_bus_publish_seconds",
    "Time from the gathering of a write to the broker's reply.",
    ["stage"],
    buckets=HOP_BUCKETS_S,
)
read_seconds = Histogram(
    "parley_bus_read_seconds",
    "Time from the writing of an entry, on the broker's clock, to its delivery to the reader.",
    ["stage"],
    buckets=HOP_BUCKETS_S,
)
clock_skew = Gauge(
    "parley_clock_skew_seconds",
    "This host's clock minus the broker's. All other times are corrected for it.",
    ["stage"],
)
reconnects = Counter("parley_broker_reconnects_total", "Lost connections to the broker.", ["stage"])
loop_lag = Histogram(
    "parley_event_loop_lag_seconds", "Delay of the event loop's wake-ups.", ["stage"], buckets=HOP_BUCKETS_S
)
build_info = Gauge(
    "parley_build_info", "Always 1; the labels say what runs here.", ["stage", "version", "python", "engine"]
)

# -- the broker and the stages, as each edge sees them: take the maximum over edges ------------------

ready_workers = Gauge("parley_ready_workers", "Ready workers of a stage.", ["stage"])
queue_age = Gauge("parley_queue_age_seconds", "Age of the oldest job that waits for a worker.", ["stage"])
oldest_pending = Gauge(
    "parley_stream_oldest_pending_seconds", "Longest time since a worker renewed the lease of a job.", ["stream"]
)
stream_length = Gauge("parley_stream_length", "Entries in a jobs or dead-letter stream.", ["stream"])
stream_lag = Gauge("parley_stream_lag", "Jobs in a stream that wait for a worker.", ["stream"])
broker_up = Gauge("parley_broker_up", "1 if the broker answers this edge, else 0.", ["stage"])
broker_memory = Gauge("parley_broker_memory_bytes", "Memory used by the broker.", ["stage"])
broker_memory_limit = Gauge(
    "parley_broker_memory_limit_bytes", "The broker's maxmemory; the machine's memory if that is not set.", ["stage"]
)
broker_clients = Gauge("parley_broker_clients", "Connections to the broker.", ["stage"])
broker_commands = Gauge(
    "parley_broker_commands_per_second", "Commands per second that the broker processes.", ["stage"]
)
broker_keys = Gauge("parley_broker_keys", "Keys in the broker.", ["stage"])

# -- usage, for billing and capacity planning -----------------------------------------------------

llm_tokens = Counter(
    "parley_llm_tokens_total",
    "Tokens, if the engine reports them: prompt (not cached), cached (prompt tokens from the cache) and reply.",
    ["engine", "direction"],
)
llm_prompt = Histogram(
    "parley_llm_prompt_tokens",
    "Tokens of one prompt, if the engine reports them. Near PARLEY_CONTEXT_TOKENS less PARLEY_REPLY_TOKENS, turns are left out.",
    ["engine"],
    buckets=PROMPT_BUCKETS,
)
llm_shortened = Counter(
    "parley_llm_prompts_shortened_total",
    "Prompts that leave out a part of the conversation, by reason: turns (the oldest did not fit into the window), results "
    "(the middle of a long tool result), refused (an endpoint refused a longer prompt and was asked again).",
    ["engine", "reason"],
)
llm_summaries = Counter(
    "parley_llm_summaries_total",
    "Summaries of the beginning of long conversations (PARLEY_SUMMARIES), by outcome: done, or failed: then the oldest turns are "
    "left out instead.",
    ["engine", "outcome"],
)
llm_first_token = Histogram(
    "parley_llm_first_token_seconds",
    "Time to first token of the chat model, excluding queueing.",
    ["engine"],
    buckets=SEGMENT_BUCKETS_S,
)
tts_characters = Counter("parley_tts_characters_total", "Characters sent to the synthesiser.", ["engine"])
asr_seconds = Counter("parley_asr_seconds_total", "Audio sent to the recogniser.", ["engine"])
endpoint_requests = Counter(
    "parley_endpoint_requests_total",
    "Requests to a model endpoint, first or fallback, by outcome: done, cancelled (no longer needed), timeout, limited "
    "(rate limit), refused (invalid request or key) or failed.",
    ["stage", "endpoint", "outcome"],
)

# -- GPUs, set by `shared.observability.process_stats` ----------------------------------------------

gpu_utilization = Gauge("parley_gpu_utilization_ratio", "Share of time in which a kernel ran on the GPU.", ["gpu"])
gpu_memory_used = Gauge("parley_gpu_memory_used_bytes", "GPU memory used by all processes.", ["gpu"])
gpu_memory_total = Gauge("parley_gpu_memory_total_bytes", "Total GPU memory.", ["gpu"])
gpu_process_memory = Gauge("parley_gpu_process_memory_bytes", "GPU memory used by this process.", ["gpu"])
gpu_power = Gauge("parley_gpu_power_watts", "Power draw of the GPU.", ["gpu"])
gpu_temperature = Gauge("parley_gpu_temperature_celsius", "Temperature of the GPU.", ["gpu"])
gpu_xid_errors = Counter("parley_gpu_xid_errors_total", "Xid errors reported by the GPU's driver.", ["gpu"])


def start_at_zero(stage: str) -> None:
    """Create this process's series at 0: `rate` would miss the first event of a series that appears at 1.

    Series with an engine begin when that is loaded.
    """
    for counter in (reclaims, leases_lost, dead_letters, bad_frames, reconnects, wasted_work):
        counter.labels(stage)
    dropped.labels("broker_error")
    if stage != "edge":
        queue_wait.labels(stage)
        for outcome in ("done", "stale", "failed", "lost", "dead", "handed_back"):
            work_done.labels(stage, outcome)
        return
    for outcome in ("completed", "interrupted", "cancelled", "failed", "empty"):
        turns_total.labels(outcome)
    for sound in ("voice", "tone"):
        apologies.labels(sound)
    for reason in FAILURES:
        turn_reasons.labels("failed", reason)
    for reason in CUTS:
        turn_reasons.labels("completed", reason)
    for outcome in ("reused", "redone", "wasted"):
        speculations.labels(outcome)
    for reason in ("stopping", "broker", "full", "no_worker", "behind", "busy"):
        sessions_refused.labels(reason)
    for reason in ("stale", "duplicate", "audio_too_fast", "broker_slow", "slow_reader", "too_many"):
        dropped.labels(reason)
    for protocol in PROTOCOLS:
        for series in (turn_latency, barge_in, session_setup, sessions_active, underruns):
            series.labels(protocol)
        for outcome in ("left", "closed", "failed"):
            sessions_total.labels(protocol, outcome)
        for code in ("client", "1000", "1008", "1009", "1011", "1012", "1013"):
            closes.labels(protocol, code)
        for direction in ("in", "out"):
            audio_seconds.labels(direction, protocol)
