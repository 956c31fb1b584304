"""`parley acl`: the broker's users."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import read_settings


def acl(
    file: Annotated[Path, typer.Argument(help="File to write, for the broker's setting `aclfile`.")],
) -> None:
    """Write an ACL file for the broker, with a user for each service, and print their passwords once.

    Each user may do what its service needs, with Parley's keys and channels. The file holds only digests of the passwords.

    Exit code: 0 it was written, 1 it exists or cannot be written, 2 the settings are wrong.
    """
    from deploy.local.acl import write_acl

    raise typer.Exit(write_acl(read_settings(), file))
