"""How log lines look: as text for people, or a JSON object a line for machines."""

import logging
import sys
from datetime import UTC, datetime

import orjson

from service.settings import Settings

__all__ = ["JsonLines", "configure_logs"]

TEXT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """A JSON object for each record, with the `fields` that it was given."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()


def configure_logs(settings: Settings) -> None:
    """From here on this process logs as the settings say: text to stderr, or JSON to stdout."""
    # Looked up for every line otherwise, and in none (the standard library's own advice, in its logging HOWTO).
    logging.logThreads = logging.logMultiprocessing = False
    if settings.log_format == "json":
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonLines())
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(TEXT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
