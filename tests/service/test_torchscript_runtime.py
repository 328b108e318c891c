"""TorchScript: a real program, opened from verified bytes, reproduces its probe. Few other tests here have torch."""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bundle.errors import ProgramInvalid
from bundle.operations import Family, Method
from bundle.read import Bundle, read_bundle
from service.app import create_app
from service.engine.loaded import prove
from service.engine.runtimes.torchscript import TorchScriptRuntime, resolve_device
from service.errors import DeviceUnavailable
from service.settings import Settings
from tests.bundle_factory import LATENT_SIZE, SIZE, make_files, publish, run
from tests.service.programs import rows_of
from tests.service.scripted import scripted

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """The tiny bundle's arithmetic in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x[:, :2] * self.scale

    @torch.jit.export
    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.encode(x)
        return mean, torch.zeros_like(mean)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return torch.cat([z, z], 1)

    @torch.jit.export
    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    @torch.jit.export
    def anomaly_map(self, x: Tensor) -> Tensor:
        return (self.reconstruct(x) - x) ** 2

    @torch.jit.export
    def anomaly_score(self, x: Tensor) -> Tensor:
        return self.anomaly_map(x).mean(dim=1)


class Mute(nn.Module):
    """Has one method of many."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x[:, :2]


@pytest.fixture(scope="module")
def program() -> bytes:
    return scripted(Tiny())


def bundle_of(root: Path, program: bytes) -> Bundle:
    files = make_files(Family.VARIATIONAL, program=program)
    return read_bundle(publish(root, family=Family.VARIATIONAL, files=files))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_method_answers_what_the_program_computes_as_float32(root: Path, program: bytes, count: int) -> None:
    bundle = bundle_of(root, program)
    runtime = TorchScriptRuntime(bundle, device=CPU)
    assert runtime.device == "cpu"
    for method in sorted(bundle.manifest.methods):
        rows = rows_of(*range(count))[:, : LATENT_SIZE if method.takes_latents else SIZE]
        outputs = runtime.run(method, rows)
        assert len(outputs) == len(run(method, rows))
        for found, wanted in zip(outputs, run(method, rows), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
            assert found.dtype == np.float32


def test_a_bundle_is_proven_by_its_probe(root: Path, program: bytes) -> None:
    bundle = bundle_of(root, program)
    proven = prove(lambda: bundle, lambda bundle: TorchScriptRuntime(bundle, device=CPU))
    assert proven.golden_error < 1e-6


def test_rows_are_neither_changed_nor_required_to_be_writeable(root: Path, program: bytes) -> None:
    runtime = TorchScriptRuntime(bundle_of(root, program), device=CPU)
    rows = rows_of(1, 2)
    rows.flags.writeable = False
    (codes,) = runtime.run(Method.ENCODE, rows)
    np.testing.assert_array_equal(codes, rows_of(1, 2)[:, :2])
    np.testing.assert_array_equal(rows, rows_of(1, 2))


def test_answers_are_plain_arrays_without_a_graph(root: Path, program: bytes) -> None:
    runtime = TorchScriptRuntime(bundle_of(root, program), device=CPU)
    before = torch.get_rng_state()
    first, second = (runtime.run(Method.RECONSTRUCT, rows_of(1, 2, 3))[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_program_that_lacks_a_method_is_refused_by_its_name(root: Path) -> None:
    with pytest.raises(ProgramInvalid, match=r"^model\.pt exports no anomaly_map, anomaly_score, decode, "):
        TorchScriptRuntime(bundle_of(root, scripted(Mute())), device=CPU)


def _saved_weights() -> bytes:
    buffer = io.BytesIO()
    torch.save(Tiny().state_dict(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"a program", b"PK\x03\x04" + bytes(100), _saved_weights()], ids=range(4))
def test_what_is_no_torchscript_program_is_refused(root: Path, content: bytes) -> None:
    with pytest.raises(ProgramInvalid, match=r"^model\.pt (is no archive|holds no|cannot be opened)") as refusal:
        TorchScriptRuntime(bundle_of(root, content), device=CPU)
    assert "\n" not in str(refusal.value)
    assert str(root) not in str(refusal.value)


def test_a_program_cut_anywhere_is_refused(root: Path, program: bytes) -> None:
    bundle = bundle_of(root, program)
    for length in range(0, len(program), len(program) // 12):
        cut = Bundle(bundle.manifest, bundle.digest, bundle.golden, None, {"model.pt": program[:length]})
        with pytest.raises(ProgramInvalid):
            TorchScriptRuntime(cut, device=CPU)


def test_float32_is_float32_on_a_gpu_too(root: Path, program: bytes) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    TorchScriptRuntime(bundle_of(root, program), device=CPU)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("count", "asked", "device"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cpu", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_a_device_is_the_one_asked_for(count: int, asked: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert str(resolve_device(asked)) == device


@pytest.mark.parametrize(("count", "asked"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1"), (2, "cuda:7")])
def test_a_gpu_that_is_not_there_is_refused_with_what_is(
    count: int, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    there = f"it has {count} of them, counted from cuda:0" if count else "it has none that torch can use"
    with pytest.raises(DeviceUnavailable, match=rf"^the device {asked} was asked for, .* {there}\. Use auto or cpu$"):
        resolve_device(asked)


async def test_the_whole_app_serves_a_real_program(root: Path, program: bytes) -> None:
    bundle_of(root, program)
    app = create_app(Settings(models_dir=root, device="cpu", poll_seconds=3600, strict=True))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://diabolo") as client,
    ):
        rows = rows_of(1, 2, 3)
        for operation, field, name, method in (
            ("encode", "inputs", "latents", Method.ENCODE),
            ("decode", "latents", "outputs", Method.DECODE),
            ("reconstruct", "inputs", "outputs", Method.RECONSTRUCT),
            ("anomaly-score", "inputs", "scores", Method.ANOMALY_SCORE),
        ):
            sent = rows[:, : LATENT_SIZE if method.takes_latents else SIZE]
            response = await client.post(f"/v1/models/tiny/{operation}", json={field: sent.tolist()})
            assert response.status_code == 200, response.text
            np.testing.assert_allclose(response.json()[name], run(method, sent)[0], rtol=1e-6)


class Greedy(Tiny):
    """Takes 64 TiB for each row."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x[:, :2] + x[:1, :1].expand(1 << 22, 1 << 22).abs()


def test_a_want_of_memory_is_pythons_memory_error(root: Path) -> None:
    runtime = TorchScriptRuntime(bundle_of(root, scripted(Greedy())), device=CPU)
    with pytest.raises(MemoryError):
        runtime.run(Method.ENCODE, rows_of(1))
    runtime.run(Method.DECODE, rows_of(1)[:, :2])


class Raising(nn.Module):
    """Fails on what is not there for a test: a GPU."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__()
        self.error = error

    def encode(self, _: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), MemoryError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
    ],
)
def test_cuda_without_memory_is_too_and_its_other_errors_are_not(
    root: Path, program: bytes, error: RuntimeError, found: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = TorchScriptRuntime(bundle_of(root, program), device=CPU)
    monkeypatch.setattr(runtime, "_program", Raising(error))
    with pytest.raises(found):
        runtime.run(Method.ENCODE, rows_of(1))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_program_that_memory_does_not_suffice_to_open_is_not_called_invalid(
    root: Path, program: bytes, error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.jit, "freeze", fails)
    with pytest.raises(MemoryError):
        TorchScriptRuntime(bundle_of(root, program), device=CPU)
