"""Files whose hashes are right and whose content is hostile: refused by name, and nothing is unpickled."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bundle.errors import CalibrationInvalid, GoldenInvalid
from bundle.manifest import CALIBRATION_FILE, GOLDEN_FILE
from bundle.read import read_bundle
from tests.bundle_factory import CALIBRATION, forge, make_golden, rewrite_manifest

Array = npt.NDArray[Any]


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**changes: Array | bytes | None) -> bytes:
    """The bytes of golden.npz with members replaced, added or (None) left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(make_golden().to_bytes())) as good, zipfile.ZipFile(buffer, "w") as archive:
        members: dict[str, bytes | None] = {name: good.read(name) for name in good.namelist()}
        for key, value in changes.items():
            members[f"{key}.npy"] = npy(value) if isinstance(value, np.ndarray) else value
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return buffer.getvalue()


def header(text: bytes) -> bytes:
    """A .npy file with this header and no data."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def encrypted(content: bytes) -> bytes:
    """The zip archive with every member marked as encrypted."""
    return content.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    )


TRAPS = np.array([Trap()] * CALIBRATION.size, dtype=object)
HUGE = header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000,)}\n")

CALIBRATIONS: dict[str, bytes] = {
    "pickle": npy(TRAPS),
    "empty": b"",
    "zip": b"PK\x03\x04 and no more",
    "archive": make_golden().to_bytes(),
    "broken header": header(b"{'descr': (("),
    "terabytes": HUGE,
    "negative shape": header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-19,)}\n"),
    "short of data": npy(CALIBRATION.scores)[:-1],
    "descending": npy(CALIBRATION.scores[::-1]),
    "NaN": npy(np.append(CALIBRATION.scores[:-1], np.float32(np.nan))),
    "infinity": npy(np.append(CALIBRATION.scores[:-1], np.float32(np.inf))),
    "one too few": npy(CALIBRATION.scores[1:]),
    "no scores": npy(CALIBRATION.scores[:0]),
    "double precision": npy(CALIBRATION.scores.astype(np.float64)),
    "other byte order": npy(CALIBRATION.scores.astype(">f4")),
    "two dimensions": npy(CALIBRATION.scores[:, None]),
    "no dimension": npy(np.array(1, np.float32)),
}

ROWS = make_golden().inputs
GOLDENS: dict[str, bytes] = {
    "pickled inputs": npz(inputs=TRAPS),
    "pickle beside the rest": npz(extra=TRAPS),
    "pickle instead of an archive": npy(TRAPS),
    "array instead of an archive": npy(ROWS),
    "empty": b"",
    "empty archive": b"PK\x05\x06" + bytes(18),
    "encrypted": encrypted(npz()),
    "terabytes": npz(inputs=HUGE),
    "member that is no array": npz(inputs=b"text"),
    "no inputs": npz(inputs=None),
    "no latents": npz(latents=None),
    "no rows": npz(inputs=ROWS[:0]),
    "rows of another size": npz(inputs=ROWS[:, 1:]),
    "rows without dimensions": npz(inputs=np.array(1, np.float32)),
    "fewer latents than inputs": npz(latents=ROWS[:2, :2]),
    "double precision": npz(inputs=ROWS.astype(np.float64)),
    "NaN": npz(inputs=np.full_like(ROWS, np.nan)),
    "infinite answer": npz(**{"decode.0": np.full_like(ROWS, np.inf)}),
    "answer of another shape": npz(**{"encode.0": ROWS}),
    "answer missing": npz(**{"encode.0": None}),
    "two answers of one": npz(**{"encode.1": ROWS[:, :2]}),
    "second answer without a first": npz(**{"encode.0": None, "encode.1": ROWS[:, :2]}),
    "method missing": npz(**{"decode.0": None, "decode.tolerance": None}),
    "method of another family": npz(**{"denoise.0": ROWS, "denoise.tolerance": np.array([0.0, 0.0])}),
    "infinite tolerance": npz(**{"decode.tolerance": np.array([0.0, np.inf])}),
    "NaN tolerance": npz(**{"decode.tolerance": np.array([np.nan, 0.0])}),
    "negative tolerance": npz(**{"decode.tolerance": np.array([0.0, -1.0])}),
    "three tolerances": npz(**{"decode.tolerance": np.zeros(3)}),
    "one tolerance": npz(**{"decode.tolerance": np.array(0.0)}),
    "tolerances in a column": npz(**{"decode.tolerance": np.zeros((2, 1))}),
    "tolerances in words": npz(**{"decode.tolerance": np.array(["a", "b"])}),
}


@pytest.mark.parametrize("forgery", CALIBRATIONS)
def test_a_forged_calibration_is_refused(folder: Path, forgery: str) -> None:
    forge(folder, CALIBRATION_FILE, CALIBRATIONS[forgery])
    with pytest.raises(CalibrationInvalid):
        read_bundle(folder)


@pytest.mark.parametrize("forgery", GOLDENS)
def test_a_forged_probe_is_refused(folder: Path, forgery: str) -> None:
    forge(folder, GOLDEN_FILE, GOLDENS[forgery])
    with pytest.raises(GoldenInvalid):
        read_bundle(folder)


def test_a_probe_for_codes_of_another_size_is_refused(folder: Path) -> None:
    rewrite_manifest(folder, lambda fields: fields["latent"].update(size=3))
    with pytest.raises(GoldenInvalid, match="other sizes"):
        read_bundle(folder)


def test_the_forgeries_start_from_files_that_are_accepted(folder: Path) -> None:
    forge(folder, GOLDEN_FILE, npz())
    forge(folder, CALIBRATION_FILE, npy(CALIBRATION.scores))
    assert read_bundle(folder).golden.inputs.shape == ROWS.shape
