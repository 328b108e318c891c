"""Programs that would write files, read them or draw: torch runs them, so they never get to torch."""

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bundle.errors import ProgramForbidden
from bundle.inspection.source import METHODS, OPERATORS
from bundle.operations import Family
from bundle.read import Bundle, read_bundle
from service.engine.repository import Repository
from service.engine.runtimes.selection import runtime_opener
from service.engine.runtimes.torchscript import TorchScriptRuntime
from tests.bundle_factory import make_files, publish
from tests.service.scripted import archive_of, members_of, scripted

CPU = torch.device("cpu")


class Writes(nn.Module):
    """Writes a file whenever it is called."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        torch.ops.aten.save(x, "written")
        return x


class WritesOnLoading(nn.Module):
    """Writes a file when it is loaded, before anything of it is called."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> bool:
        return self.training

    @torch.jit.export
    def __setstate__(self, training: bool) -> None:
        self.training = training
        torch.ops.aten.save(training, "written")


class ReadsAndWrites(nn.Module):
    """Maps a file into memory, and makes it where there is none."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x + torch.from_file("written", True, 4)


class Draws(nn.Module):
    """Answers differently every time."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class GivesMemory(nn.Module):
    """Answers what happens to lie in memory."""

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return torch.empty_like(x)


def bundle_of(root: Path, program: bytes) -> Bundle:
    return read_bundle(publish(root, family=Family.VARIATIONAL, files=make_files(Family.VARIATIONAL, program=program)))


@pytest.mark.parametrize("program", [Writes, WritesOnLoading, ReadsAndWrites])
def test_torch_itself_would_touch_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: type[nn.Module]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = scripted(program())
    assert not Path("written").exists()
    loaded = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]  # torch's own
    if program is not WritesOnLoading:
        loaded.encode(torch.zeros(4))
    assert Path("written").exists()


@pytest.mark.parametrize(
    ("program", "named"),
    [
        (Writes, r"torch\.save"),
        (WritesOnLoading, r"__getstate__"),
        (ReadsAndWrites, r"torch\.from_file"),
        (Draws, r"torch\.rand_like"),
        (GivesMemory, r"torch\.empty_like"),
    ],
)
def test_a_forbidden_program_is_refused_by_name_before_torch_sees_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: type[nn.Module], named: str
) -> None:
    bundle = bundle_of(root, scripted(program()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("torch was given the program"))
    with pytest.raises(ProgramForbidden, match=rf"^code/\S+\.py in model\.pt .* {named}, which is not allowed$"):
        TorchScriptRuntime(bundle, device=CPU)
    assert not Path("written").exists()


async def test_the_catalog_gives_its_own_reason(root: Path) -> None:
    bundle_of(root, scripted(Writes()))
    repository = Repository(
        root,
        open_runtime=runtime_opener("torchscript", device="cpu"),
        make_loaded=lambda _: pytest.fail("it was loaded"),
        drain_seconds=0,
    )
    await repository.refresh()
    assert [refusal.reason for refusal in repository.refused.values()] == ["program-forbidden"]


class Weighs(nn.Module):
    """Has a tensor of two rows of two."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_values_that_are_not_there_are_refused(root: Path) -> None:
    """torch does not look: it answers with what lies behind in memory, or crashes."""
    promised = {b"K\x04tQ": b"K\x7ftQ", b"(K\x02K\x02t": b"(K\x02K\x3ft"}  # the storage, and the tensor in it
    members = members_of(scripted(Weighs()))
    for old, new in promised.items():
        assert members["archive/data.pkl"].count(old) == 1
        members["archive/data.pkl"] = members["archive/data.pkl"].replace(old, new)
    loaded = torch.jit.load(io.BytesIO(archive_of(members)))  # type: ignore[no-untyped-call]  # torch's own
    assert loaded.weight.shape == (2, 63)
    with pytest.raises(ProgramForbidden, match=r"^model\.pt promises more values than data/0 holds$"):
        TorchScriptRuntime(bundle_of(root, archive_of(members)), device=CPU)


def test_no_method_of_a_program_is_an_operator_too_and_every_operator_is_one() -> None:
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    assert names.issuperset(f"aten::{operator}" for operator in OPERATORS)
    assert not [name for name in names if METHODS.fullmatch(name.partition("::")[2])]
    assert names.issuperset({"aten::save", "aten::from_file"})


def test_no_operator_that_is_allowed_draws() -> None:
    for operator in OPERATORS:
        for overload in torch._C._jit_get_schemas_for_operator(f"aten::{operator}"):
            assert "Generator" not in str(overload)
