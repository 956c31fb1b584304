"""What all tests of the edge share."""

import pytest

from shared.bus import leases


@pytest.fixture(autouse=True)
def lasting_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that said once that it is ready stays so, however long the test takes."""
    monkeypatch.setattr(leases, "READY_TTL_MS", 600_000)
