"""The benchmark that kills writers: it finds nothing wrong with ours, and a careless one out."""

import hashlib
from pathlib import Path

from benchmarks.reliability.killed_writer import Writer, measure_writer
from benchmarks.reliability.row import Outcome
from bundle.manifest import MANIFEST_FILE, FileEntry, serialise_manifest
from bundle.read import read_bundle
from tests.bundle_factory import publish


class CarelessWriter(Writer):
    """Writes where readers look."""

    def write(self, root: Path, version: int) -> None:
        """The version is in `root`, sooner or later."""
        folder = root / self.manifest.name / str(version)
        folder.mkdir(parents=True)
        entries = {}
        for name, content in self.files_of(version).items():
            (folder / name).write_bytes(content)
            entries[name] = FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        (folder / MANIFEST_FILE).write_bytes(serialise_manifest(self.manifest_of(version, entries)))


def measured(writer: type[Writer], tmp_path: Path, *, every: int) -> Outcome:
    bundle = read_bundle(publish(tmp_path))
    return measure_writer(writer(bundle.manifest, dict(bundle.files)), at_random=3, every=every)


def by_name(outcome: Outcome) -> dict[str, float]:
    return {check.what: check.measured for check in outcome.checks}


def test_readers_of_our_writer_see_the_old_version_or_the_new(tmp_path: Path) -> None:
    found = by_name(measured(Writer, tmp_path, every=50))
    assert found.pop("kills") > 10
    assert found == {
        "times that half a version was found after a kill": 0,
        "times that a reader saw half a version meanwhile": 0,
        "publications after the last kill": 1,
    }


def test_a_writer_that_writes_where_readers_look_is_found_out(tmp_path: Path) -> None:
    outcome = measured(CarelessWriter, tmp_path, every=10)
    found = by_name(outcome)
    assert found["times that half a version was found after a kill"] > 3
    assert found["times that a reader saw half a version meanwhile"] > 0
    assert not all(check.holds for check in outcome.checks)
