"""How much one client may use: the time of the event loop that all clients share, and actions per second. Pure."""


class TokenBucket:
    """Allows `burst` at once, and `per_s` in the long run."""

    def __init__(self, per_s: float, burst: float, now_s: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._tokens, self._at_s = burst, now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take this much if there is enough."""
        self._refill(now_s)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, amount: float, now_s: float) -> float:
        """Take this much, which was used already. Returns the seconds until what is missing is there again."""
        self._refill(now_s)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._per_s)

    def _refill(self, now_s: float) -> None:
        self._tokens = min(self._burst, self._tokens + self._per_s * (now_s - self._at_s))
        self._at_s = now_s


CALLERS_KEPT = 10_000
"""Callers whose connections are counted; the one that has been there for longest is forgotten first."""


class ConnectRates:
    """How often each caller connects."""

    def __init__(self, per_min: int) -> None:
        self._per_min = per_min
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, caller: str, now_s: float) -> bool:
        """The caller connects. Returns False if it does so too often."""
        bucket = self._buckets.get(caller)
        if bucket is None:
            if len(self._buckets) >= CALLERS_KEPT:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[caller] = TokenBucket(self._per_min / 60, self._per_min, now_s)
        return bucket.take(1, now_s)
