"""Where NO_SKIPS is set, as continuous integration does, a skipped test is a failed one: what is always skipped
protects nothing, and nobody notices."""

import os
from collections.abc import Generator

import pytest

# What even those machines may lack.
EXCUSED = (
    "no GPU that PyTorch can use on this machine",
    "names no Python of an environment with kserve",
    "no small file system can be mounted here: user namespaces are not allowed",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a test, or of its setup; a skip without an excuse is a failure."""
    report = yield
    if os.environ.get("NO_SKIPS") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.endswith(EXCUSED):
            report.outcome = "failed"
            report.longrepr = f"it must run here: {reason}"
    return report
