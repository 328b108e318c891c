"""How many connections a process may have: as many as the system lets it."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from service.machine import allow_open_files
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "after"), [(64, 1000, 1000), (1000, 1000, 1000)])
def test_the_limit_on_open_files_is_raised_to_what_the_system_allows(soft: int, hard: int, after: int) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(after), str(hard)]
