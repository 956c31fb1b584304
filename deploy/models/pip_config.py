"""The user's configuration of pip: where the package index is, and how to reach it.

pip itself cannot resume a download in a later process, so Parley downloads wheels itself, from the places that pip would use.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.models.download import SourceFailed

PYPI = "https://pypi.org/simple"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SECTIONS = ("global", "download", ":env:")
"""What `pip download` reads, in the order in which one overrides the other."""
TIMEOUT_S = 15.0
"""pip's own default."""


@dataclass(frozen=True, slots=True)
class PipConfig:
    """The options of pip that say where a wheel is."""

    indexes: tuple[str, ...] = (PYPI,)
    """URLs of simple indexes (PEP 503, PEP 691)."""
    find_links: tuple[str, ...] = ()
    """Folders, or URLs of pages with links."""
    proxy: str | None = None
    certificates: str | None = None
    """File of certificates to trust."""
    timeout_s: float = TIMEOUT_S


def read_pip_config() -> PipConfig:
    """Return the configuration of pip, from its files and the environment; pip's defaults where pip is not installed."""
    command = [*PIP, "config", "list"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return parse_pip_config(result.stdout.splitlines())


def parse_pip_config(lines: Iterable[str]) -> PipConfig:
    """Parse the output of `pip config list`: one `section.option='value'` a line."""
    sections: dict[str, dict[str, str]] = {}
    for line in lines:
        key, found, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if found and section in SECTIONS:
            sections.setdefault(section, {})[option] = str(ast.literal_eval(value))
    options = {name: value for section in SECTIONS for name, value in sections.get(section, {}).items()}
    indexes = [*_words(options, "index-url"), *_words(options, "extra-index-url")]
    if "index-url" not in options:
        indexes.insert(0, PYPI)
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = []
    timeout = options.get("timeout") or options.get("default-timeout")
    return PipConfig(
        tuple(indexes),
        tuple(_words(options, "find-links")),
        options.get("proxy"),
        options.get("cert"),
        float(timeout) if timeout else TIMEOUT_S,
    )


def _words(options: Mapping[str, str], name: str) -> list[str]:
    return options.get(name, "").split()


def pip_download(name: str, version: str, sha256: str, folder: Path) -> None:
    """Let pip download a wheel into a folder: it may have credentials and certificates that only it can use.

    Raises:
        SourceFailed: pip could not, or is not installed; with the last line that it printed.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    flags = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--retries=1", "--no-cache-dir", "--quiet"]
    command = [*PIP, "download", *flags, "--dest", str(folder), "--requirement", str(wanted)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted.unlink()
    if result.returncode:
        raise SourceFailed(f"pip: {(result.stderr.strip().splitlines() or ['it failed'])[-1]}")
