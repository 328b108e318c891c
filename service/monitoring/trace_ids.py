"""Ids of traces that were drawn before their first span was made."""

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

__all__ = ["GivenIds"]


class GivenIds(RandomIdGenerator):
    """Draws an id for a trace, which the next span without a parent then has."""

    def __init__(self) -> None:
        self._next: int | None = None

    def draw(self) -> int:
        """A new one, at random."""
        self._next = super().generate_trace_id()
        return self._next

    def generate_trace_id(self) -> int:
        """The last that was drawn, once."""
        found, self._next = self._next, None
        return super().generate_trace_id() if found is None else found
