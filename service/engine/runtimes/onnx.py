"""ONNX graphs, without torch. The only file of the service that imports onnxruntime."""

import os

from bundle.calibration import Floats
from bundle.errors import ProgramInvalid
from bundle.inspection.graph import check_graph
from bundle.manifest import WEIGHTS_FILE, onnx_file
from bundle.onnx import refuse_telemetry
from bundle.operations import Method
from bundle.read import Bundle
from service.engine.runtimes.memory import lacks_memory

refuse_telemetry()
import onnxruntime  # noqa: E402  # after that

__all__ = ["OnnxRuntime"]

# One thread, the caller's: a row takes it microseconds, a pool for each graph would spin on cores that other bundles
# need, and more cores are what workers are for.
THREADS = 1
NOTHING_LOGGED = 4  # what goes wrong is raised as well


class OnnxRuntime:
    """A bundle's graphs on the CPU, opened from the bytes that were verified. Raises ProgramForbidden when one has an
    operator that is not of the standard, before onnxruntime reads it; ProgramInvalid when one does not open, or when it
    wants data from anywhere but weights.bin; MemoryError where memory does not suffice for it at the moment."""

    device = "cpu"
    platform = "onnxruntime_onnx"

    def __init__(self, bundle: Bundle) -> None:
        weights = bundle.files[WEIGHTS_FILE]
        for method in sorted(bundle.manifest.methods):
            check_graph(onnx_file(method), bundle.files[onnx_file(method)])
        self._graphs = {
            method: _open(onnx_file(method), bundle.files[onnx_file(method)], weights)
            for method in sorted(bundle.manifest.methods)
        }

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """The arrays that `method` returns for rows of shape (n, width): float32, n rows each. Raises MemoryError where
        memory does not suffice for so many."""
        session, given = self._graphs[method]
        try:
            return tuple(session.run(None, {given: rows}))
        except Exception as error:  # its errors have no class in common
            if lacks_memory(error):
                raise MemoryError(f"{len(rows)} rows are too many for the memory there is") from error
            raise


def _open(name: str, graph: bytes, weights: bytes) -> tuple[onnxruntime.InferenceSession, str]:
    """The opened graph, and what it calls the rows that it takes. `weights` are copied and may go afterwards."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    options.log_severity_level = NOTHING_LOGGED
    # An arena for each graph keeps what its largest batch took: 570 MB for eight bundles instead of 210, and no faster.
    options.enable_cpu_mem_arena = False
    options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    # Tensors inside of functions and branches are looked for on the disk, by default from the current folder on; below
    # a file that is no folder there is nothing to be found.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        if lacks_memory(error):
            raise MemoryError(f"memory does not suffice to open {name}") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ProgramInvalid(f"{name} cannot be opened by onnxruntime {onnxruntime.__version__}: {reason}") from None
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ProgramInvalid(f"{name} takes {len(inputs)} inputs; the graph of a method takes one, its rows")
    return session, inputs[0].name
