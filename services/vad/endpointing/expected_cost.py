"""The silence to wait for where it is uncertain whether the turn is over: the one with the least expected cost. Pure.

Waiting for `w` ms costs `w` where the turn is over, and a cut turn where the person was about to go on after more than `w` ms.
Pauses within a turn are taken for exponentially distributed, with the mean `m` of this speaker. The expected cost

    P(over) · w + P(not over) · cut · exp(-w / m)

is least at `w = m · ln(cut / m · P(not over) / P(over))`.
"""

import math

CUT_MS = 2_000.0
"""What a turn that is cut in two costs, in ms of waiting at the end of another one."""
FIRST_PAUSE_MS = 600.0
"""Mean pause of a speaker who is not known yet."""
FIRST_TURNS, FIRST_PAUSES = 4.0, 2.0
"""What is assumed of a speaker before the first turn: this many turns, and pauses within them."""
MEMORY = 0.9
"""Weight of what was known after each further pause or turn."""


def wait_ms(log_odds_over: float, pause_ms: float) -> float:
    """Return the silence with the least expected cost; below 0: the turn is over.

    Args:
        log_odds_over: Logarithm of the odds that the turn is over.
        pause_ms: Mean length of the speaker's pauses within turns.
    """
    return pause_ms * (math.log(CUT_MS / pause_ms) - log_odds_over)


def log_odds(probability: float, surest: float) -> float:
    """Return the logarithm of the odds, with a probability of at most `surest` and at least 1 - `surest`."""
    sure = min(max(probability, 1 - surest), surest)
    return math.log(sure / (1 - sure))


class Pace:
    """How often and how long a speaker pauses within turns: running means in which older ones count less."""

    def __init__(self) -> None:
        self._turns, self._pauses = FIRST_TURNS, FIRST_PAUSES
        self._paused_ms = FIRST_PAUSES * FIRST_PAUSE_MS

    def paused(self, pause_ms: float) -> None:
        """The person went on after this silence."""
        self._pauses = 1 + MEMORY * self._pauses
        self._paused_ms = pause_ms + MEMORY * self._paused_ms
        self._turns *= MEMORY

    def ended(self) -> None:
        """A turn ended."""
        self._turns = 1 + MEMORY * self._turns
        self._pauses *= MEMORY
        self._paused_ms *= MEMORY

    @property
    def pause_ms(self) -> float:
        """Mean length of a pause within a turn."""
        return self._paused_ms / self._pauses

    @property
    def log_odds_over(self) -> float:
        """Logarithm of the odds that a pause of this speaker is the end of a turn."""
        return math.log(self._turns / self._pauses)

    def state(self) -> list[float]:
        return [self._turns, self._pauses, self._paused_ms]

    def restore(self, state: list[float]) -> None:
        self._turns, self._pauses, self._paused_ms = state
