"""`python -m dashboards` builds the dashboards and alert rules; `--check` lists built files that are out of date."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dashboards import alerts, boards

BUILT = Path(__file__).parent / "built"
BUILDERS: tuple[Callable[[], dict[str, str]], ...] = (boards.build, alerts.build)
"""Each returns file contents by name; names are unique across builders."""


def main(argv: Sequence[str] | None = None, folder: Path = BUILT) -> int:
    """Build the files, or compare them with `--check`. Returns 1 if any differs."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a built file is out of date")
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
    """Return the contents of all files, by name.

    Raises:
        ValueError: two builders returned a file of the same name.
    """
    files: dict[str, str] = {}
    for builder in BUILDERS:
        built = builder()
        if twice := files.keys() & built.keys():
            raise ValueError(f"built twice: {', '.join(sorted(twice))}")
        files |= built
    return files


def write(files: dict[str, str], folder: Path) -> None:
    """Write the files, and delete all other files in the folder."""
    folder.mkdir(exist_ok=True)
    for path in _present(folder):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def differences(files: dict[str, str], folder: Path) -> list[str]:
    """Return a line for each file that is missing, out of date or superfluous."""
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
