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
