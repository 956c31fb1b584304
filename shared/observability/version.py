"""The installed version of Parley."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "parley"


def parley_version() -> str:
    """Return the version of the installed distribution; `unknown` if it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
