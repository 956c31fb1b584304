"""How a process logs: structlog, readable in a terminal and a JSON object a line elsewhere, to stderr, never what was said.

What libraries log, warn of, or die of goes the same way. What is bound to the context (session, turn, revision, trace) is
on each line of a piece of work.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter

from shared.settings import Settings

log = structlog.get_logger()


class _Content:
    """Of this process."""

    shown = False


def shows_content() -> bool:
    """Whether logs and traces may hold what was said."""
    return _Content.shown


def configure_logging(settings: Settings, role: str) -> None:
    """Set up logging for this process; every line carries its role."""
    _Content.shown = settings.log_content
    text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]

    def add_role(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["role"] = role
        return event

    common: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_role,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks are plain in both: the pretty ones show local variables, and so what was said.
    last: list[structlog.types.Processor] = [structlog.processors.format_exc_info, _renderer(text=text)]
    structlog.configure(
        processors=[*common, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    # Below warnings, what a library says of the calls it makes may hold what was said.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.setLoggerClass(_LibraryLogger)
    logging.captureWarnings(True)
    sys.excepthook = _died
    threading.excepthook = lambda died: _died(died.exc_type, died.exc_value, died.exc_traceback)


def _renderer(*, text: bool) -> structlog.types.Processor:
    if not text:
        return structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


class _LibraryLogger(logging.Logger):
    """A library's logger: whatever the library thinks of it, as transformers does, it does not write to the console
    itself, and leaves that to the root's handler."""

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the standard library's name
        if type(hdlr) is not logging.StreamHandler:
            super().addHandler(hdlr)

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802
        logger: logging.Logger | None = self
        while logger is not None:
            for handler in logger.handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)
            logger = logger.parent


def _died(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """Nobody has caught this."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), traceback)
    else:
        log.critical("died", exc_info=(kind, error, traceback))
