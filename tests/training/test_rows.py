"""Rows on disk are read as those in memory are, and leave nothing behind."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from training import rows as module
from training.dataset import DataSet
from training.moments import moments
from training.rows import Rows, chunks, held, select, transformed
from training.spool import Spool
from training.units import Powers, StandardDeviations

INDEX = torch.tensor([7, 3, 150, 3])


@pytest.fixture
def on_disk(rows: Tensor, tmp_path: Path) -> Rows:
    """The 200 rows as pictures of 3 x 4 in a file."""
    np.save(tmp_path / "rows.npy", rows.numpy().reshape(200, 3, 4))
    return Rows(np.load(tmp_path / "rows.npy", mmap_mode="r"), torch.arange(200))


def test_rows_on_disk_are_asked_for_as_a_tensors_are(rows: Tensor, on_disk: Rows) -> None:
    assert len(on_disk) == 200
    assert on_disk.shape == (200, 12)
    assert torch.equal(on_disk[INDEX], rows[INDEX])
    assert torch.equal(on_disk[190:], rows[190:])
    assert torch.equal(on_disk[:], rows)


def test_a_selection_is_of_the_selected(rows: Tensor, on_disk: Rows) -> None:
    twice = torch.tensor([2, 0])
    selected = select(select(on_disk, INDEX), twice)
    assert isinstance(selected, Rows)
    assert torch.equal(selected[:], rows[[150, 7]])
    assert torch.equal(select(select(rows, INDEX), twice)[:], rows[[150, 7]])


def test_steps_are_taken_in_turn(rows: Tensor, on_disk: Rows) -> None:
    first = transformed(on_disk, lambda x: x[:, :5])
    both = transformed(first, lambda x: 2 * x)
    assert both.shape == (200, 5)
    assert torch.equal(both[INDEX], 2 * rows[INDEX, :5])
    assert torch.equal(transformed(rows, lambda x: 2 * x)[:], 2 * rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64, bool])
def test_numbers_of_any_type_become_float32(dtype: type) -> None:
    array: npt.NDArray[Any] = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype)
    taken = Rows(array, torch.arange(3))[:]
    assert taken.dtype == torch.float32
    assert taken.tolist() == [[0, 1], [1, 1], [1, 0]]


def test_few_rows_are_held_and_many_stay_on_disk(on_disk: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(held(on_disk), Tensor)
    monkeypatch.setattr(module, "MEMORY_BYTES", 4 * 12 * 200 - 1)
    assert held(on_disk) is on_disk


@pytest.mark.parametrize("chunk_bytes", [1, 48 * 7, 2**20])
def test_in_whatever_chunks_rows_have_the_same_digest_and_moments(
    rows: Tensor, on_disk: Rows, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    def digest(features: Tensor | Rows) -> str:
        return DataSet(source="", features=features, labels=None, range=None, image=None).digest

    whole = digest(rows)
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    assert torch.equal(torch.cat(list(chunks(on_disk))), rows)
    assert digest(on_disk) == whole
    exact = rows.numpy().astype(np.float64)
    found = moments(on_disk)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, exact.std(axis=0), rtol=1e-12)
    assert torch.equal(found.minimum, rows.amin(dim=0).double())
    assert torch.equal(found.maximum, rows.amax(dim=0).double())


def test_moments_far_from_zero_keep_their_digits() -> None:
    rows = torch.tensor([[4096.0], [4096.5], [4097.0]]).repeat(1000, 1)
    assert moments(rows).deviation.item() == pytest.approx((1 / 6) ** 0.5, rel=1e-12)


def test_units_are_standard_deviations_and_lead_back(rows: Tensor) -> None:
    wide = torch.cat([1000 * rows + 5, torch.full((200, 1), 3.0)], dim=1)
    units = StandardDeviations(moments(wide))
    inward = units.inward(wide)
    torch.testing.assert_close(inward.mean(dim=0), torch.zeros(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(inward[:, :12].std(dim=0, correction=0), torch.ones(12), atol=1e-4, rtol=0)
    assert (inward[:, 12] == 0).all()
    torch.testing.assert_close(units.outward(inward), wide, rtol=1e-5, atol=1e-4)


def test_powers_make_weak_values_count_more_and_lead_back() -> None:
    units = Powers(1 / 3, range=(-1, 1))
    torch.testing.assert_close(units.inward(torch.tensor([[-1, -0.75, 1]])), torch.tensor([[0, 0.5, 1]]))
    rows = torch.linspace(-3, 3, 61)[None]
    torch.testing.assert_close(units.outward(units.inward(rows)), rows, rtol=1e-5, atol=1e-5)


def test_what_was_spooled_is_an_array_without_a_file(tmp_path: Path) -> None:
    with Spool(tmp_path / "runs", dtype=np.float32) as spool:
        spool.append(np.array([[1, 2], [3, 4]]))
        spool.append(np.array([[5.5, 6]]))
        array = spool.array()
    assert array.tolist() == [[1, 2], [3, 4], [5.5, 6]]
    assert isinstance(array, np.memmap)
    assert list((tmp_path / "runs").iterdir()) == []


def test_nothing_spooled_is_no_rows(tmp_path: Path) -> None:
    with Spool(tmp_path, dtype=np.uint8) as spool:
        assert spool.array().shape == (0, 0)


def test_a_full_disk_fails_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: object) -> NoReturn:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with Spool(tmp_path, dtype=np.float32) as spool, pytest.raises(OSError, match="No space left"):
        spool.append(np.zeros((1, 1)))
