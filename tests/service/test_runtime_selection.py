"""Which runtime opens a bundle, by the settings, by what it holds and by what is installed."""

from pathlib import Path

import pytest

from bundle.errors import ArtefactMissing
from bundle.read import Bundle, read_bundle
from service import machine
from service.app import create_app
from service.engine.runtimes import selection
from service.engine.runtimes.selection import runtime_opener, runtimes_of
from service.machine import RuntimeName, check_installed, may_use_gpu
from service.settings import Settings
from tests.bundle_factory import publish
from tests.service.graphs import onnx_bundle

BOTH = frozenset({"torch", "onnxruntime"})


@pytest.fixture
def bundles(root: Path) -> dict[bool, Bundle]:
    """One with ONNX, one without."""
    return {True: onnx_bundle(root), False: read_bundle(publish(root, name="old"))}


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without a GPU, where opening a bundle says what would have opened it."""
    monkeypatch.setattr(machine, "GPU_NODES", ())
    return monkeypatch


def chosen(bundle: Bundle, runtime: RuntimeName = "auto", *, device: str = "auto") -> str:
    return selection._chosen(runtime, bundle, device=device)


def install(monkeypatch: pytest.MonkeyPatch, packages: frozenset[str]) -> None:
    monkeypatch.setattr(machine, "installed", packages.__contains__)


@pytest.mark.parametrize(
    ("runtime", "device", "exported", "installed", "wanted"),
    [
        ("auto", "auto", True, BOTH, "onnx"),
        ("auto", "cpu", True, BOTH, "onnx"),
        ("auto", "cuda", True, BOTH, "torchscript"),
        ("auto", "cuda:1", True, BOTH, "torchscript"),
        ("auto", "auto", False, BOTH, "torchscript"),
        ("auto", "auto", True, {"torch"}, "torchscript"),
        ("auto", "auto", True, {"onnxruntime"}, "onnx"),
        ("onnx", "auto", True, BOTH, "onnx"),
        ("torchscript", "cpu", True, BOTH, "torchscript"),
    ],
)
def test_a_bundle_is_opened_by(
    bundles: dict[bool, Bundle],
    patch: pytest.MonkeyPatch,
    runtime: RuntimeName,
    device: str,
    exported: bool,
    installed: frozenset[str],
    wanted: str,
) -> None:
    install(patch, installed)
    assert chosen(bundles[exported], runtime, device=device) == wanted


def test_a_gpu_that_may_be_there_is_torchs(
    bundles: dict[bool, Bundle], patch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patch.setattr(machine, "GPU_NODES", (str(tmp_path),))
    assert may_use_gpu("auto")
    assert not may_use_gpu("cpu")
    install(patch, BOTH)
    assert chosen(bundles[True]) == "torchscript"
    assert chosen(bundles[True], device="cpu") == "onnx"
    install(patch, frozenset({"onnxruntime"}))
    assert chosen(bundles[True]) == "onnx"


def test_a_bundle_without_what_is_asked_for_is_refused_with_what_to_do(
    bundles: dict[bool, Bundle], patch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ArtefactMissing, match=r"^the bundle has no ONNX, which DIABOLO_RUNTIME=onnx asks for: use auto"
    ):
        runtime_opener("onnx", device="cpu")(bundles[False])
    install(patch, frozenset({"onnxruntime"}))
    with pytest.raises(ArtefactMissing, match=r"torch, which runs TorchScript, is not installed: pip install"):
        runtime_opener("auto", device="cpu")(bundles[False])


@pytest.mark.parametrize(
    ("runtime", "installed", "missing"),
    [
        ("auto", set(), "torch"),
        ("torchscript", {"onnxruntime"}, "torch"),
        ("onnx", {"torch"}, "onnxruntime"),
        ("auto", {"onnxruntime"}, None),
        ("auto", {"torch"}, None),
        ("onnx", {"onnxruntime"}, None),
    ],
)
def test_a_runtime_that_is_not_installed_is_named(
    patch: pytest.MonkeyPatch, runtime: RuntimeName, installed: frozenset[str], missing: str | None
) -> None:
    install(patch, installed)
    if missing is None:
        check_installed(runtime)
    else:
        with pytest.raises(ModuleNotFoundError) as error:
            check_installed(runtime)
        assert error.value.name == missing


def test_a_bundle_is_replayed_by_every_runtime_that_is_installed_and_can(
    bundles: dict[bool, Bundle], patch: pytest.MonkeyPatch
) -> None:
    install(patch, BOTH)
    assert runtimes_of(bundles[True]) == ["torchscript", "onnx"]
    assert runtimes_of(bundles[False]) == ["torchscript"]
    install(patch, frozenset({"onnxruntime"}))
    assert runtimes_of(bundles[True]) == ["onnx"]
    with pytest.raises(ModuleNotFoundError, match="torch"):
        runtimes_of(bundles[False])


def test_onnx_on_a_gpu_is_refused_by_the_settings() -> None:
    with pytest.raises(ValueError, match="DIABOLO_RUNTIME=onnx runs on the CPU alone"):
        Settings(runtime="onnx", device="cuda:0")


async def test_the_catalog_shows_why_a_bundle_is_refused(root: Path, bundles: dict[bool, Bundle]) -> None:
    assert set(bundles) == {True, False}
    app = create_app(Settings(models_dir=root, runtime="onnx", poll_seconds=3600))
    async with app.router.lifespan_context(app):
        await app.state.repository.refresh()
        assert set(app.state.repository.loaded) == {("tiny", 1)}
        (refusal,) = app.state.repository.refused.values()
    assert (refusal.name, refusal.reason) == ("old", "artefact-missing")
