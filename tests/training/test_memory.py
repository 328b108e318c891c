"""Data larger than memory: the bound is the system's, so that more cannot be taken unnoticed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bundle.read import read_bundle

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("bounded_memory.py")
BLOCKS, BLOCK_ROWS, SIZE = 80, 5_000, 256
MEGABYTES = BLOCKS * BLOCK_ROWS * SIZE * 4 // 2**20
ALLOWED = MEGABYTES // 2


def write(folder: Path) -> None:
    """The same random rows, 391 MB of them, in rows.npy and rows.parquet."""
    block = np.random.default_rng(0).normal(size=(BLOCK_ROWS, SIZE)).astype(np.float32)
    shape = (BLOCKS * BLOCK_ROWS, SIZE)
    rows = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=np.float32, shape=shape)
    schema = pa.schema([(f"x{index}", pa.float32()) for index in range(SIZE)])
    with parquet.ParquetWriter(folder / "rows.parquet", schema, compression="none", use_dictionary=False) as writer:
        for index in range(BLOCKS):
            rows[index * BLOCK_ROWS : (index + 1) * BLOCK_ROWS] = block + index
            writer.write_table(pa.table(list((block + index).T), schema=schema))


def test_half_of_what_the_data_take_is_enough_to_train_on_them(tmp_path: Path) -> None:
    write(tmp_path)
    # What glibc keeps of freed blocks, and the stacks of threads, are no memory that the program holds.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
    allocation = {"MALLOC_MMAP_THRESHOLD_": "262144", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(ALLOWED)],
        cwd=ROOT,
        env={**os.environ, **allocation, **threads, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.stdout.split() == ["read", "trained"], ended.stderr
    assert "memory" in ended.stderr.lower()  # the bound is one: holding all rows fails
    assert read_bundle(tmp_path / "models" / "large" / "1").manifest.input.size == SIZE
    assert [path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()] == ["losses.csv"]
