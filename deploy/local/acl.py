"""What `parley acl` does: makes passwords, writes the broker's ACL file, and prints the URL of each role."""

import os
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

from shared.bus.acl import COMMANDS, acl_file
from shared.settings import Settings

PASSWORD_BYTES = 24


def write_acl(settings: Settings, file: Path) -> int:
    """Write the file, readable by its owner only, and print the URLs. Returns the exit code."""
    passwords = {role: secrets.token_urlsafe(PASSWORD_BYTES) for role in COMMANDS}
    try:
        # Never over an existing file: the passwords in it would be lost.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(acl_file(passwords))
    except OSError as error:
        print(f"{file}: {error.strerror}", file=sys.stderr)
        return 1
    print(
        f"{file} has {len(passwords)} users. Start the broker with `--aclfile {file}`, and each service with its URL:"
    )
    address = _address(settings)
    for role, password in passwords.items():
        print(f"{role:<7} PARLEY_REDIS_URL={address.format(user=f'{role}:{password}')}")
    print(
        "`parley` is for `parley up`, `doctor` for `parley doctor` and `parley dead`. The passwords are not shown again."
    )
    return 0


def _address(settings: Settings) -> str:
    """The URL of the settings, or an example, with `{user}` in the place of user and password."""
    if settings.redis_url is None:
        return "rediss://{user}@HOST:6379"
    parts = urlsplit(settings.redis_url.get_secret_value())
    return f"{parts.scheme}://{{user}}@{parts.netloc.rpartition('@')[2]}{parts.path}"
