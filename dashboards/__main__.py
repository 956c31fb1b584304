"""`python -m dashboards` builds the dashboards and the alert rules; `--check` says what differs from them on disk."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dashboards import alerts, boards

BUILT = Path(__file__).parent / "built"
BUILDERS: tuple[Callable[[], dict[str, str]], ...] = (boards.build, alerts.build)
"""Each gives the text of files by their names; no two the same name."""


def main(argv: Sequence[str] | None = None, folder: Path = BUILT) -> int:
    """Build, or with `--check` compare. Returns 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as it is built")
    check = parser.parse_args(argv).check
    files = build()
    if not check:
        write(files, folder)
        return 0
    wrong = differences(files, folder)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def build() -> dict[str, str]:
    """All files.

    Raises:
        ValueError: two builders gave a file of the same name.
    """
    files: dict[str, str] = {}
    for builder in BUILDERS:
        built = builder()
        if twice := files.keys() & built.keys():
            raise ValueError(f"built twice: {', '.join(sorted(twice))}")
        files |= built
    return files


def write(files: dict[str, str], folder: Path) -> None:
    """Make the folder hold these files and no others."""
    folder.mkdir(exist_ok=True)
    for path in _present(folder):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def differences(files: dict[str, str], folder: Path) -> list[str]:
    """A line for each file that is missing, differs or is superfluous."""
    present = {path.name: path for path in _present(folder)}
    wrong = [f"{name}: missing" for name in files.keys() - present.keys()]
    wrong += [f"{name}: superfluous" for name in present.keys() - files.keys()]
    for name in files.keys() & present.keys():
        if present[name].read_bytes() != files[name].encode():
            wrong.append(f"{name}: differs; run `python -m dashboards`")
    return sorted(wrong)


def _present(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
