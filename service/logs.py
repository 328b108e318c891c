"""How log lines look: as text for people, or a JSON object a line for machines."""

import logging
import sys

import orjson

from service.settings import Settings

__all__ = ["configure_logs", "json_lines"]

TEXT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"


def json_lines() -> logging.Formatter:
    """Makes a JSON object of each record, whoever logged it, with what it was given as `extra`."""
    # Only here, for it brings all that it needs to colour lines, where that is installed.
    from structlog.processors import (
        CallsiteParameter,
        CallsiteParameterAdder,
        EventRenamer,
        JSONRenderer,
        TimeStamper,
        format_exc_info,
    )
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    return ProcessorFormatter(
        foreign_pre_chain=[
            TimeStamper(fmt="iso", utc=True),
            add_log_level,
            add_logger_name,
            EventRenamer("message"),
            CallsiteParameterAdder({CallsiteParameter.PROCESS}),
            ExtraAdder(),
            format_exc_info,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, JSONRenderer(serializer=_dumps)],
    )


def _dumps(line: object, **_: object) -> str:
    return orjson.dumps(line, default=str).decode()


def configure_logs(settings: Settings) -> None:
    """From here on this process logs as the settings say: text to stderr, or JSON to stdout."""
    # Looked up for every line otherwise, and in none (the standard library's own advice, in its logging HOWTO).
    logging.logThreads = logging.logMultiprocessing = False
    if settings.log_format == "json":
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(json_lines())
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(TEXT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
