"""A disk without room, or a limit on a file's size, in the middle of a publication: the old version stays, nothing half
is left, and the next attempt succeeds once there is room."""

import errno
import subprocess
import sys
from pathlib import Path

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


def _published(root: Path, *, limit: int = 0, before: str = "", prefix: tuple[str, ...] = ()) -> list[str]:
    """A line for each of ten versions that were tried: the error's number, and what was there after it."""
    command = f'{before}exec "$@"'
    ended = subprocess.run(
        [*prefix, "sh", "-euc", command, "sh", sys.executable, "-c", PUBLISH, str(root), str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def _check(lines: list[str], number: int) -> None:
    fits, refused = '[0, [1, 2], true, ["1", "2"]]', f'[{number}, [1], true, ["1"]]'
    assert set(lines) == {fits, refused}
    assert lines == sorted(lines), "the smallest fit, and from one size on none does"


def test_a_version_that_is_larger_than_files_may_be_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    _check(_published(tmp_path, limit=ROOM // 8), errno.EFBIG)


def test_a_full_disk_leaves_the_old_version_and_nothing_else(tmp_path: Path) -> None:
    tried = subprocess.run([*MOUNTED, "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("no small file system can be mounted here: user namespaces are not allowed")
    mount = f"mount -t tmpfs -o size={ROOM} none {tmp_path}; "
    _check(_published(tmp_path, before=mount, prefix=tuple(MOUNTED)), errno.ENOSPC)
    assert list(tmp_path.iterdir()) == [], "it was written where there is room"
