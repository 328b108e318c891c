"""What a TorchScript archive may hold, checked before torch sees any of it, and without torch.

An archive is a zip of source text (`code/`), of pickles that say which object holds which tensor (`data.pkl`,
`constants.pkl`) and of the tensors' bytes. torch compiles the source and builds the objects, and what it compiles may
call any operator there is, those that read and write files among them. So the archive is taken apart here, every part
is compared with what our export writes, and torch is given a new archive of these parts and nothing else: where its
reader of zip files and Python's would disagree does not matter.
"""

import io
import re
import struct
import zipfile

from bundle.errors import ProgramForbidden, ProgramInvalid
from bundle.inspection.objects import check_objects
from bundle.inspection.source import check_source
from bundle.manifest import TORCHSCRIPT_FILE

__all__ = ["inspected"]

MEMBERS = re.compile(
    r"(data|constants)\.pkl|(data|constants)/\d+|version|byteorder|code/__torch__/(\w+/)*\w+\.py", re.ASCII
)
# What torch writes as well and no program needs: rows that were traced, without their values, and notes for debuggers.
LEFT_BEHIND = re.compile(
    r"traced_inputs\.pkl|traced_inputs/\d+|\.data/serialization_id|\.format_version|\.storage_alignment"
    r"|code/__torch__/(\w+/)*\w+\.py\.debug_pkl",
    re.ASCII,
)


def inspected(program: bytes) -> bytes:
    """The archive of `program` made anew, of its allowed members, all of which have been looked at.

    Raises ProgramInvalid for what is no archive of a program, and ProgramForbidden, which says what it was, for
    anything that no program of ours holds or calls.
    """
    members = _members(program)
    classes = check_source({path: content for path, content in members.items() if path.endswith(".py")})
    for path in ("constants.pkl", "data.pkl"):
        if path not in members:
            raise ProgramInvalid(f"{TORCHSCRIPT_FILE} holds no {path}: it is no program that torch saved")
        check_objects(path, members=members, classes=classes)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path, content in members.items():
            file.writestr(zipfile.ZipInfo(f"archive/{path}"), content)
    return archive.getvalue()


def _members(program: bytes) -> dict[str, bytes]:
    """The members to hand on, by their paths below the one folder of the archive."""
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(program)) as archive:
            entries = archive.infolist()
            # What is only stored cannot grow, unless the same bytes belong to several members.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ProgramForbidden(f"{TORCHSCRIPT_FILE} is compressed; our export only stores")
            if sum(entry.file_size for entry in entries) > len(program):
                raise ProgramForbidden(f"{TORCHSCRIPT_FILE} promises more bytes than it has")
            top = entries[0].filename.partition("/")[0] if entries else ""
            seen: set[str] = set()
            for entry in entries:
                folder, _, path = entry.filename.partition("/")
                known = MEMBERS.fullmatch(path)
                # torch's reader of zip files does not tell capitals from small letters.
                if folder != top or path.lower() in seen or not (known or LEFT_BEHIND.fullmatch(path)):
                    raise ProgramForbidden(
                        f"{TORCHSCRIPT_FILE} holds {entry.filename[:100]!r}, which no program of ours has, or has once"
                    )
                seen.add(path.lower())
                if known:
                    members[path] = archive.read(entry)
    # What zipfile raises for damage has no class in common.
    except (zipfile.BadZipFile, struct.error, OSError, EOFError, ValueError, RuntimeError, OverflowError) as error:
        raise ProgramInvalid(f"{TORCHSCRIPT_FILE} is no archive that torch saved: {error}") from None
    return members
