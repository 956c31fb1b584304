"""Writes docs/settings.md from the table of settings: `python -m deploy.settings_docs`; with --check, only says if it is old."""

import sys
from pathlib import Path
from typing import Any

from shared.protocol.session import SESSION_TABLE
from shared.settings import PROFILES, TABLE
from shared.settings_service import user_cache
from shared.settings_table import Row

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Made by `python -m deploy.settings_docs` from shared/settings_*.py and shared/protocol/session.py. -->

Settings are environment variables; `parley config` shows all of them with their values, secrets masked. A value that is not
allowed stops the start, and so does a variable `PARLEY_…` that is not listed here: the message names the nearest setting.
`PARLEY_TEST_CLIPS` and `PARLEY_TEST_MODELS` belong to tests and benchmarks; a service ignores them.

On Kubernetes, a service that is called `parley` adds variables such as `PARLEY_PORT=tcp://…` to every pod of its
namespace. Set `enableServiceLinks: false` for pods of Parley, or give the service another name.
"""

SESSION_HEAD = """\
A client may set these for its own session. The variable, `PARLEY_` and the name in upper case, sets the default of sessions
whose client does not. The range of a setting is the same everywhere: a client can send back every value that it is shown.

- `/ws`: by these names, in the `config` of `start_streaming` and `configure`. `ready` and `GET /config` show them.
- Twilio: by these names, as a `<Parameter>` of the call. Other parameters are ignored.
- OpenAI Realtime: in `session.update`, where some have other names: `turn_detection` null is `detect_turns` false,
  `silence_duration_ms` is `endpoint_ms`, `prefix_padding_ms` is `preroll_ms`, `idle_timeout_ms` is `idle_ms`, `create_response` is
  `create_reply`, `interrupt_response` is `interrupt_reply`, `output_modalities` is `spoken`, `transcription.prompt` is `hints`.
"""


def settings_page() -> str:
    parts = [HEAD]
    for section in dict.fromkeys(row.section for row in TABLE.values()):
        rows = [row for row in TABLE.values() if row.section == section]
        is_session = rows[0].name in SESSION_TABLE
        parts.append(
            "\n".join([f"## {section}\n", *([SESSION_HEAD] if is_session else []), *_table(rows, is_session)]) + "\n"
        )
    return "\n".join(parts)


def _table(rows: list[Row], is_session: bool) -> list[str]:
    last = "on the page" if is_session else "stage"
    lines = [f"| setting | default | allowed | what it does | {last} |", "|---|---|---|---|---|"]
    for row in rows:
        name = row.name if is_session else row.variable
        mark = ("yes" if row.setting.page else "") if is_session else row.setting.stage
        lines.append(f"| `{name}` | {_default(row)} | {_allowed(row)} | {row.setting.text} | {mark} |")
    return lines


def _default(row: Row) -> str:
    common = "" if row.default in (None, "") else f"`{_plain(row.default)}`{_unit(row)}"
    own = [f"{profile}: `{values[row.name]}`" for profile, values in PROFILES.items() if row.name in values]
    return ", ".join([*own, *([common] if common else [])]) or "–"


def _plain(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case Path():
            return str(value).replace(str(user_cache()), "~/.cache", 1).replace(str(Path.home()), "~", 1)
        case _:
            return str(value)


def _unit(row: Row) -> str:
    return f" {row.setting.unit}" if row.setting.unit else ""


def _allowed(row: Row) -> str:
    """The range; nothing where every text is allowed."""
    if row.type in ("integer", "number"):
        low, high = row.setting.low, row.setting.high
        return f"{low:.15g}{_unit(row)} or more" if high is None else f"{low:.15g} to {high:.15g}{_unit(row)}"
    return row.allowed if row.choices or row.setting.shape or row.setting.longest or row.type == "boolean" else ""


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 if the page is out of date, and --check was given."""
    text = settings_page()
    if "--check" in arguments:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.name} is out of date. Run: python -m deploy.settings_docs", file=sys.stderr)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
