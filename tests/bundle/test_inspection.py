"""Programs are taken apart before torch sees them: what no program of ours has is refused, and named."""

import io
import zipfile
from pathlib import Path

import pytest

from bundle.errors import BundleError, ProgramForbidden, ProgramInvalid
from bundle.inspection.program import inspected
from bundle.inspection.source import MOST_NESTED, MOST_TOKENS, check_source

MODELS = Path(__file__).parents[2] / "models"
PROGRAM = (MODELS / "fashion-linear" / "1" / "model.pt").read_bytes()
SOURCE = """class Program(Module):
  __parameters__ = []
  training : bool
  def encode(self: __torch__.Program,
    x: Tensor) -> Tensor:
    _0 = getattr(self, "0")
    y = (_0).forward1(x, )
    {}
    return torch.add(y, -1.5e-3)
"""


def members_of(program: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def archive_of(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, top: str = "archive") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for path, member in members.items():
            archive.writestr(f"{top}/{path}", member)
    return content.getvalue()


def changed(**members: bytes) -> bytes:
    """A sound program with other members, `data_pkl` for `data.pkl`."""
    return archive_of(
        members_of(PROGRAM) | {name.replace("_pkl", ".pkl"): content for name, content in members.items()}
    )


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*/model.pt")), ids=lambda path: path.parts[-3])
def test_shipped_programs_pass_and_only_what_is_needed_is_handed_on(path: Path) -> None:
    before, after = members_of(path.read_bytes()), members_of(inspected(path.read_bytes()))
    assert after.items() <= before.items()
    assert {name.partition("/")[0] for name in before.keys() - after.keys()} == {
        "traced_inputs",
        "traced_inputs.pkl",
        ".data",
    }


def classes_of(*lines: str) -> set[str]:
    return check_source({"code/__torch__/training/export.py": SOURCE.format("\n    ".join(lines)).encode()})


def test_classes_are_named_as_objects_name_them() -> None:
    assert classes_of() == {"__torch__.training.export.Program"}


@pytest.mark.parametrize(
    "line",
    [
        "z = torch.mul(torch.sub(x, CONSTANTS.c0), y)",
        "z = (y)",
        "z = [y, -x]",
        "z, indices = torch.topk(torch.abs(y), 3, 1)",
        "z = torch.view(y, [-1, int(ops.prim.NumToTensor(torch.size(x, 1)))])",
        "save = self.save",
        "z = (self).decode(y, )",
    ],
)
def test_what_traces_are_written_with_passes(line: str) -> None:
    classes_of(line)


@pytest.mark.parametrize(
    ("line", "said"),
    {
        'torch.save(x, "f")': "uses the operator torch.save,",
        'z = torch.from_file("/etc/passwd")': "uses the operator torch.from_file,",
        'torch . save (x, "f")': "uses the operator torch.save,",
        'torch\n.save\n(x, "f")': "uses the operator torch",
        "z = torch.add(torch.rand([2]), y)": "uses the operator torch.rand,",
        "f = torch.save": "uses the operator torch.save,",
        "f = torch.add": "uses the operator torch.add,",
        "t = torch": "uses the operator torch,",
        "torch = x": "uses the operator torch,",
        'z = torch.add.save(x, "f")': "uses the operator torch.add,",
        'ops.aten.save(x, "f")': "calls ops.aten.save,",
        "ops.prim.Print(x)": "calls ops.prim.Print,",
        "my.ops.prim.NumToTensor(x)": "calls my.ops.prim.NumToTensor,",
        'x.save("f")': "calls x.save,",
        'x.torch.save("f")': "calls x.torch.save,",
        '(x).save("f")': "calls ).save,",
        'getattr(x, "save")("f")': "calls ),",
        'f = getattr(x, "save")\n    f("f")': "calls f,",
        'getattr = x.save\n    getattr("f")': "gives getattr another meaning",
        'int, y = x.save, y\n    int("f")': "gives int another meaning",
        'x.getattr("f")': "calls x.getattr,",
        "[x][0](y)": "calls ],",
        '"save"(y)': 'calls "save",',
        "print(x)": "calls print,",
        "fork(x)": "calls fork,",
        "z = __torch__.training.export.Program(x)": "calls __torch__.training.export.Program,",
        "z = __torch__.torch.classes.dist_c10d.Store": "names a class of C++",
        "def __setstate__(self, x: int) -> None:": "defines __setstate__,",
        "def int(self) -> None:": "defines int,",
        "class Evil(Interface):": "defines 'Evil', which is no Module",
        "class Evil:": "defines 'Evil', which is no Module",
        "while True:": "has 'while', which",
        "for i in x:": "has 'for', which",
        "z = x if y else x": "has 'else', which",
        "z = lambda: x": "has 'lambda', which",
        "import os": "has 'import', which",
        "# a remark": "has '#', which",
        "z = x + y": "has '+', which",
        "z = 'save'": 'has "\'", which',
        'z = "a b"': "has '\"a b\"', which",
        'z = """': "has '\"', which",
        "z = x \\": "has '\\\\', which",
        "z =\tx": "has '\\t', which",
        "z = x\r": "has '\\r', which",
        "z = x\0": "has '\\x00', which",
        "z = ä": "has '\ufffd', which",
        "^Python()(x)": "calls Python,",
    }.items(),
)
def test_what_no_trace_has_is_refused_by_name(line: str, said: str) -> None:
    with pytest.raises(ProgramForbidden) as refusal:
        classes_of(line)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "line",
    [
        "z = " + "(" * 10**5 + "x" + ")" * 10**5,
        "z = " + "[" * (MOST_NESTED + 1) + "x" + "]" * (MOST_NESTED + 1),
        "z = x" + ".T" * 10**5,
        "z = x" + " - x" * MOST_TOKENS,
        "z = " + "- " * 10**5 + "x",
        "z = (x\n" + ".T\n" * 10**5 + ")",
        "z = (" + "x, " * 10**5,
    ],
    ids=lambda line: line[:12],
)
def test_what_would_exhaust_the_stack_of_torchs_parser_is_refused(line: str) -> None:
    with pytest.raises(ProgramForbidden, match="nests deeper, or has a longer statement"):
        classes_of(line)


@pytest.mark.parametrize(
    "name",
    [
        "model.json",
        "bytecode.pkl",
        "extra/notes",
        "code/__torch__/../evil.py",
        "code/other/evil.py",
        "code/__torch__/evil.pyc",
        "data/",
        "data/0/1",
        "data/\u0663",
        "DATA.PKL",
        "Data/0",
    ],
)
def test_a_member_that_torch_does_not_write_is_refused_by_name(name: str) -> None:
    with pytest.raises(ProgramForbidden, match=r"^model\.pt holds 'archive/"):
        inspected(archive_of(members_of(PROGRAM) | {name: b""}))


def test_members_of_two_folders_are_refused() -> None:
    with pytest.raises(ProgramForbidden, match=r"^model\.pt holds 'other/data/99'"):
        inspected(_with_another(PROGRAM, "other/data/99"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["archive/data.pkl", "archive/code/__torch__/training/EXPORT.py"])
def test_a_member_that_stands_twice_is_refused(again: str) -> None:
    with pytest.raises(ProgramForbidden, match=r"has once$"):
        inspected(_with_another(PROGRAM, again))


def _with_another(program: bytes, name: str) -> bytes:
    content = io.BytesIO(program)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(name, b"")
    return content.getvalue()


def test_what_is_compressed_is_refused() -> None:
    bomb = archive_of({"data/0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10**5
    with pytest.raises(ProgramForbidden, match=r"^model\.pt is compressed"):
        inspected(bomb)


def test_members_that_share_their_bytes_are_refused() -> None:
    content = archive_of({f"data/{i}": bytes(1000 if i == 0 else 0) for i in range(100)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
    size = first.file_size.to_bytes(4, "little") * 2
    nothing = bytes(12)
    crc = first.CRC.to_bytes(4, "little")
    directory = content.index(b"PK\x01\x02")
    bomb = content[:directory] + content[directory:].replace(nothing, crc + size)
    with pytest.raises(ProgramForbidden, match=r"^model\.pt promises more bytes than it has$"):
        inspected(bomb)


@pytest.mark.parametrize("content", [b"", b"a program", b"PK\x05\x06" + bytes(18), archive_of({"version": b"4\n"})])
def test_what_is_no_program_is_invalid(content: bytes) -> None:
    with pytest.raises(ProgramInvalid, match=r"^model\.pt (is no archive|holds no)"):
        inspected(content)


@pytest.mark.parametrize(
    ("pickle", "error", "said"),
    [
        (b"\x80\x02cos\nsystem\n.", ProgramForbidden, "names os.system, which"),
        (b"\x80\x02cbuiltins\neval\n.", ProgramForbidden, "names builtins.eval, which"),
        (b"\x80\x02ctorch.jit._pickle\nrestore_type_tag\n.", ProgramForbidden, "names torch.jit._pickle.restore_type"),
        (b"\x80\x02c__torch__.torch.classes.a\nB\n.", ProgramForbidden, "names __torch__.torch.classes.a.B, which"),
        (b"\x80\x02c__torch__.training.other\nB\n.", ProgramForbidden, "names __torch__.training.other.B, which"),
        (b"\x80\x02(ios\nsystem\n.", ProgramForbidden, "has the opcode INST, which"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", ProgramForbidden, "has the opcode SHORT_BINUNICODE, which"),
        (b"\x80\x02\x82\x01.", ProgramForbidden, "has the opcode EXT1, which"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", ProgramInvalid, "is no pickle of torch's: it remembers more than it has"),
        (b"\x80\x02\x8a\xff", ProgramInvalid, "is no pickle of torch's"),
        (b"\x80\x02R.", ProgramInvalid, "is no pickle of torch's"),
        (b"", ProgramInvalid, "is no pickle of torch's"),
    ],
)
@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_objects_that_no_program_has_are_refused(
    member: str, pickle: bytes, error: type[BundleError], said: str
) -> None:
    with pytest.raises(error) as refusal:
        inspected(archive_of(members_of(PROGRAM) | {member: pickle}))
    assert type(refusal.value) is error
    assert str(refusal.value).startswith(member)
    assert said in str(refusal.value)


def test_a_class_of_cpp_is_refused_even_where_source_defines_its_name() -> None:
    """torch would look among the classes of C++ first."""
    members = members_of(PROGRAM) | {
        "code/__torch__/torch/classes/a.py": b"class B(Module):\n  training : bool\n",
        "data.pkl": b"\x80\x02c__torch__.torch.classes.a\nB\n.",
    }
    with pytest.raises(ProgramForbidden, match=r"names __torch__\.torch\.classes\.a\.B, which"):
        inspected(archive_of(members))


def test_a_pickle_changes_nothing_that_outlives_it() -> None:
    """BUILD sets attributes, of classes too."""
    name = b"c__torch__.training.export\nProgram\n"
    with pytest.raises(ProgramInvalid):
        inspected(changed(data_pkl=b"\x80\x02" + name + b"N}(X\x07\x00\x00\x00__new__NuN\x86b" + b"R."))
    assert inspected(PROGRAM)


def tensor(values: int, *, key: str = "0", start: int = 0, sizes: bytes = b"K\x01", strides: bytes = b"K\x01") -> bytes:
    """The pickle of one tensor of `data/0`, which has 784 float32."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + len(key).to_bytes(4, "little") + key.encode()
    storage += b"X\x03\x00\x00\x00cpuJ" + values.to_bytes(4, "little", signed=True) + b"tQ"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + start.to_bytes(4, "little", signed=True)
    return b"\x80\x02" + made + b"(" + sizes + b"t(" + strides + b"t\x89ccollections\nOrderedDict\n)RtR."


def test_a_tensor_within_its_values_passes() -> None:
    inspected(changed(data_pkl=tensor(784, sizes=b"K\x1cK\x1c", strides=b"K\x1cK\x01")))
    inspected(changed(data_pkl=tensor(784, start=783)))
    inspected(changed(data_pkl=tensor(784, start=784, sizes=b"K\x00")))


@pytest.mark.parametrize(
    "pickle",
    [
        tensor(785),
        tensor(-1),
        tensor(784, key="99"),
        tensor(784, key="../version"),
        tensor(784, start=784),
        tensor(784, sizes=b"K\x1cK\x1d", strides=b"K\x1cK\x01"),
        tensor(784, sizes=b"M\x11\x03"),
        tensor(784, sizes=b"K\x02", strides=b"M\x10\x03"),
    ],
)
def test_a_tensor_of_values_that_are_not_there_is_refused(pickle: bytes) -> None:
    with pytest.raises(ProgramForbidden, match=r"promises more values|reads beyond the end of data/0"):
        inspected(changed(data_pkl=pickle))


@pytest.mark.parametrize(
    "pickle",
    [tensor(784, start=-1), tensor(784, strides=b"J\xff\xff\xff\xff"), tensor(784, sizes=b""), tensor(784, sizes=b"N")],
)
def test_a_tensor_that_is_none_is_invalid(pickle: bytes) -> None:
    with pytest.raises(ProgramInvalid, match=r"^data\.pkl in model\.pt is no pickle of torch's"):
        inspected(changed(data_pkl=pickle))
