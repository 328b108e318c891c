"""Random damage: a BundleError, or the very content that was published."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from bundle.errors import BundleError, CalibrationInvalid, GoldenInvalid
from bundle.manifest import CALIBRATION_FILE, GOLDEN_FILE, MANIFEST_FILE
from bundle.read import read_bundle
from tests.bundle_factory import forge, make_files, publish
from tests.fuzz.budget import damaged, fuzzed

FILES = make_files()
FRAGMENTS = (b"0", b"-", b"null", b'"', b"{", b"..", b"NaN")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def manifest(published: Path) -> bytes:
    return (published / MANIFEST_FILE).read_bytes()


@fuzzed(100, data=st.data(), name=st.sampled_from(sorted(FILES)))
def test_a_damaged_file_is_always_refused(data: st.DataObject, name: str, published: Path) -> None:
    content = data.draw(damaged(FILES[name], FRAGMENTS))
    assume(content != FILES[name])
    (published / name).write_bytes(content)
    try:
        with pytest.raises(BundleError):
            read_bundle(published)
    finally:
        (published / name).write_bytes(FILES[name])


@fuzzed(400, data=st.data())
def test_a_damaged_manifest_is_refused_or_has_another_digest(
    data: st.DataObject, published: Path, manifest: bytes
) -> None:
    content = data.draw(damaged(manifest, FRAGMENTS))
    assume(content != manifest)
    (published / MANIFEST_FILE).write_bytes(content)
    try:
        bundle = read_bundle(published)
    except BundleError:
        return
    finally:
        (published / MANIFEST_FILE).write_bytes(manifest)
    assert bundle.digest == hashlib.sha256(content).hexdigest() != hashlib.sha256(manifest).hexdigest()
    assert dict(bundle.files) == FILES


@fuzzed(400, data=st.data(), name=st.sampled_from([GOLDEN_FILE, CALIBRATION_FILE]))
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing")
def test_a_forged_file_breaks_nothing_but_its_bundle(
    data: st.DataObject, name: str, published: Path, manifest: bytes
) -> None:
    """The hash is right, so the parsers see the damage: whatever they say of it, the reader says by name."""
    content = data.draw(damaged(FILES[name], FRAGMENTS))
    forge(published, name, content)
    try:
        assert read_bundle(published).files[name] == content
    except (GoldenInvalid, CalibrationInvalid):
        pass
    finally:
        (published / name).write_bytes(FILES[name])
        (published / MANIFEST_FILE).write_bytes(manifest)
