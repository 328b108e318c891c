"""A disk without room, or a limit on a file's size, in the middle of a publication or of a change of what is wanted:
the old state stays, nothing half is seen, and the next attempt succeeds once there is room."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MOUNTED = ["unshare", "--user", "--map-root-user", "--mount"]
ROOM = 256 * 1024
PUBLISH = f"""
import errno, json, resource, sys
from pathlib import Path

from bundle.read import read_bundle, scan
from tests.bundle_factory import make_files, publish

root, limit = Path(sys.argv[1]), int(sys.argv[2])
publish(root, version=1)
old, (_, most) = b"a program", resource.getrlimit(resource.RLIMIT_FSIZE)
for share in range(1, 11):
    # Of each size there is room for, another file is the one that does not fit.
    files = {{name: content.ljust(share * {ROOM} // 20, b" ") for name, content in make_files().items()}}
    del files["golden.npz"], files["calibration.npy"]
    files = make_files() | files
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        publish(root, files=files, version=2)
        told = 0
    except OSError as error:
        told = error.errno
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    seen = [location.version for location in scan(root)]
    whole = read_bundle(root / "tiny" / "1").files["model.pt"] == old
    print(json.dumps([told, seen, whole, sorted(path.name for path in (root / "tiny").iterdir())]))
    if not told:
        import shutil; shutil.rmtree(root / "tiny" / "2")
publish(root, version=2)
read_bundle(root / "tiny" / "2")
"""


WISH = """
import json, resource, sys
from pathlib import Path

from service.engine.desired import StateFile
from service.errors import StateUnavailable

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
state, (_, most) = StateFile(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
before = state.change("tiny", lambda wish: wish.pin(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))
else:
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
try:
    state.change("tiny", lambda wish: wish.pin(2))
    told = "nothing"
except StateUnavailable as error:
    told = str(error)
print(json.dumps([told, StateFile(folder).read() == before]))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
(folder / "filler").unlink(missing_ok=True)
print(state.change("tiny", lambda wish: wish.pin(2)).of("tiny").pinned)
"""


class Disk(NamedTuple):
    """Where there is little room; `error` is what the system says then."""

    root: Path
    error: int
    limit: int = 0
    prefix: tuple[str, ...] = ()
    mount: str = ""

    def run(self, script: str) -> list[str]:
        """What a program says that is given the folder, and the limit in bytes, 0 for none."""
        shell = ["sh", "-euc", f'{self.mount}exec "$@"', "sh"]
        ended = subprocess.run(
            [*self.prefix, *shell, sys.executable, "-c", script, str(self.root), str(self.limit)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        if self.mount:
            assert list(self.root.iterdir()) == [], "it was written where there is room"
        return ended.stdout.splitlines()


@pytest.fixture(params=["full disk", "limited files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """A small file system of one's own that fills up, or a limit on what a file may hold."""
    if request.param == "limited files":
        return Disk(tmp_path, errno.EFBIG, limit=ROOM // 8)
    tried = subprocess.run([*MOUNTED, "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True, check=False)
    if tried.returncode:
        # Many containers forbid them, CI's may; then the limit on files, above, still runs.
        pytest.skip("no small file system can be mounted here: user namespaces are not allowed")
    return Disk(tmp_path, errno.ENOSPC, prefix=tuple(MOUNTED), mount=f"mount -t tmpfs -o size={ROOM} none {tmp_path}; ")


def test_a_version_that_there_is_no_room_for_leaves_the_old_one_and_nothing_else(disk: Disk) -> None:
    lines = disk.run(PUBLISH)
    assert set(lines) == {'[0, [1, 2], true, ["1", "2"]]', f'[{disk.error}, [1], true, ["1"]]'}
    assert lines == sorted(lines), "the smallest fit, and from one size on none does"


def test_what_is_wanted_stays_as_it_was_where_there_is_no_room_for_a_change(disk: Disk) -> None:
    refused, later = disk.run(WISH)
    told, unchanged = json.loads(refused)
    assert told == f"desired.json cannot be written: {os.strerror(disk.error)}"
    assert unchanged
    assert later == "2"
