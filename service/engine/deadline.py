"""Until when the answer to the request under way is wanted."""

from contextvars import ContextVar

__all__ = ["DEADLINE"]

DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)
"""By `time.monotonic`; None where nobody has said. Forward passes that would begin later do not."""
