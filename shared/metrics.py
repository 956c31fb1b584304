"""Every metric, in one place. Labels are bounded: never a session, a turn or a person."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

TURN_BUCKETS_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 1.25, 1.5, 2, 3, 5, 8, 13)

bad_frames = Counter("parley_bad_frames_total", "Entries that were no frame of ours, set aside.", ["stage"])
dead_letters = Counter("parley_dead_letters_total", "Work that was given up after its last attempt.", ["stage"])
work_done = Counter("parley_work_total", "Pieces of work by how they ended.", ["stage", "outcome"])
work_busy = Gauge("parley_work_in_hand", "Pieces of work that this process has in hand.", ["stage"])
reclaims = Counter("parley_reclaims_total", "Work taken over from a worker that fell silent.", ["stage"])
leases_lost = Counter("parley_leases_lost_total", "Work that another worker took from this one.", ["stage"])
dropped = Counter("parley_dropped_total", "Data that was dropped, by reason.", ["reason"])
reconnects = Counter("parley_broker_reconnects_total", "Connections to the broker that broke.", ["role"])
sessions_active = Gauge("parley_sessions_active", "Sessions that this edge serves.", ["protocol"])
sessions_total = Counter("parley_sessions_total", "Sessions by how they ended.", ["protocol", "outcome"])
sessions_refused = Counter("parley_sessions_refused_total", "Sessions that were refused, by reason.", ["reason"])
turns_total = Counter("parley_turns_total", "Turns by how their reply ended.", ["outcome"])
speculations = Counter(
    "parley_speculations_total",
    "Replies that were prepared before the turn was over, by what came of them.",
    ["outcome"],
)
resumes = Counter("parley_resumes_total", "Replies that went on after an interruption that was none.")
turn_latency = Histogram(
    "parley_turn_latency_seconds", "End of speech to the first reply audio that left the edge.", buckets=TURN_BUCKETS_S
)


def serve_metrics(port: int) -> None:
    """Offer the metrics of this process on a port of its own; 0: not at all."""
    if port:
        start_http_server(port)
