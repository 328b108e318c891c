"""Says how many cases were tried."""

import pytest

from tests.fuzz.budget import tried


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, cases in sorted(tried.items()):
        terminalreporter.write_line(f"{cases:9,} cases  {name}")
    if tried:
        terminalreporter.write_line(f"{tried.total():9,} cases tried in {len(tried)} properties")
