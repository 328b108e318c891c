"""How many cases a property is tried with: a few and always the same in the suite, as many as asked in `make fuzz`."""

import functools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

__all__ = ["damaged", "fuzzed", "tried"]

CASES = int(os.environ.get("FUZZ_CASES", "0"))

tried: Counter[str] = Counter()
"""Cases by property, in this process."""


def fuzzed(least: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test is tried with `least` cases of these strategies, the same every time; or with FUZZ_CASES new ones."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*arguments: Any, **cases: Any) -> None:
            tried[test.__name__] += 1
            test(*arguments, **cases)

        limits = settings(
            max_examples=max(least, CASES),
            derandomize=not CASES,
            deadline=None,  # two busy cores say nothing about the code
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )
        return limits(given(**strategies)(counted))

    return decorate


@st.composite
def damaged(draw: st.DrawFn, content: bytes, fragments: tuple[bytes, ...] = (b"\0", b"\xff" * 8)) -> bytes:
    """`content` with up to three places overwritten, cut out or filled in, with any bytes or with `fragments`."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        removed = draw(st.integers(0, 8))
        inserted = draw(st.binary(max_size=8) | st.sampled_from(fragments))
        content = content[:start] + inserted + content[start + removed :]
    return content
