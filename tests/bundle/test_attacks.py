"""Every way to damage a bundle is refused under its own name, and before anything is deserialised."""

import contextlib
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import (
    BundleError,
    HashMismatch,
    ManifestInvalid,
    ManifestMissing,
    ManifestTooLarge,
    MissingFile,
    NameMismatch,
    NotARegularFile,
    SchemaVersionUnknown,
    SizeMismatch,
    UnknownFile,
    UnsafeFileName,
)
from bundle.manifest import CALIBRATION_FILE, CARD_FILE, GOLDEN_FILE, MANIFEST_FILE, TORCHSCRIPT_FILE
from bundle.read import read_bundle
from tests.bundle_factory import make_files, publish, rewrite_manifest

Damage = Callable[[Path], object]


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip(path: Path, position: int) -> None:
    """One bit of one byte is another one."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def replace_by_link(path: Path) -> None:
    """The same content, reached through a symbolic link that leads out of the bundle."""
    elsewhere = path.parents[1] / f".elsewhere-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def replace_by_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path: Path) -> None:
    path.unlink()
    # A socket's address may have 108 bytes at most, a temporary folder's path has more.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)


# What is done to one file of the bundle, and the error that must come of it.
DAMAGED_FILE: dict[str, tuple[Damage, type[BundleError]]] = {
    "truncated": (lambda path: os.truncate(path, 3), SizeMismatch),
    "emptied": (lambda path: os.truncate(path, 0), SizeMismatch),
    "extended": (append, SizeMismatch),
    "first byte flipped": (lambda path: flip(path, 0), HashMismatch),
    "last byte flipped": (lambda path: flip(path, -1), HashMismatch),
    "missing": (lambda path: path.unlink(), MissingFile),
    "symbolic link": (replace_by_link, NotARegularFile),
    "dangling link": (replace_by_dangling_link, NotARegularFile),
    "folder": (replace_by_folder, NotARegularFile),
    "pipe": (replace_by_pipe, NotARegularFile),
    "socket": (replace_by_socket, NotARegularFile),
}


@pytest.mark.usefixtures("nothing_is_deserialised")
@pytest.mark.parametrize("attack", DAMAGED_FILE)
@pytest.mark.parametrize("name", sorted(make_files()))
def test_a_damaged_file_is_refused_unopened(folder: Path, name: str, attack: str) -> None:
    damage, error = DAMAGED_FILE[attack]
    damage(folder / name)
    with pytest.raises(BundleError, match=name) as refusal:
        read_bundle(folder)
    assert type(refusal.value) is error


def write_manifest(content: bytes) -> Damage:
    return lambda folder: (folder / MANIFEST_FILE).write_bytes(content)


def on_manifest(damage: Damage) -> Damage:
    return lambda folder: damage(folder / MANIFEST_FILE)


def change(**fields: Any) -> Damage:
    """The manifest has other values."""
    return lambda folder: rewrite_manifest(folder, lambda manifest: manifest.update(fields))


def list_file(name: str) -> Damage:
    """The manifest lists one more file."""
    entry = {"size": 1, "sha256": "0" * 64}
    return lambda folder: rewrite_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


def unlist(name: str) -> Damage:
    """The file is neither there nor listed."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        rewrite_manifest(folder, lambda manifest: manifest["files"].pop(name))

    return damage


def promise_size(size: Any) -> Damage:
    """The manifest says that the program has `size` bytes."""
    return lambda folder: rewrite_manifest(
        folder, lambda manifest: manifest["files"][TORCHSCRIPT_FILE].update(size=size)
    )


def rewrite_text(old: bytes, new: bytes) -> Damage:
    """The manifest's text has `new` in the one place where it had `old`."""

    def damage(folder: Path) -> None:
        content = (folder / MANIFEST_FILE).read_bytes()
        assert content.count(old) == 1
        (folder / MANIFEST_FILE).write_bytes(content.replace(old, new))

    return damage


def link_folder(folder: Path) -> None:
    """tiny/1 is a symbolic link to a good bundle elsewhere."""
    elsewhere = folder.parents[2] / "elsewhere" / "tiny" / "1"
    elsewhere.parent.mkdir(parents=True)
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def link_name(folder: Path) -> None:
    """tiny is a symbolic link to a folder of good bundles elsewhere."""
    elsewhere = folder.parents[2] / "elsewhere" / "tiny"
    elsewhere.parent.mkdir()
    folder.parent.rename(elsewhere)
    folder.parent.symlink_to(elsewhere)


# What is done to the bundle as a whole, or to its manifest, and the error that must come of it.
DAMAGED_BUNDLE: dict[str, tuple[Damage, type[BundleError]]] = {
    "half copied, no manifest": (on_manifest(Path.unlink), ManifestMissing),
    "half copied, manifest first": (lambda folder: (folder / GOLDEN_FILE).unlink(), MissingFile),
    "manifest is a link": (on_manifest(replace_by_link), NotARegularFile),
    "manifest is a folder": (on_manifest(replace_by_folder), NotARegularFile),
    "manifest is a pipe": (on_manifest(replace_by_pipe), NotARegularFile),
    "manifest is a socket": (on_manifest(replace_by_socket), NotARegularFile),
    "folder is a link": (link_folder, NotARegularFile),
    "name is a link": (link_name, NotARegularFile),
    "unknown file in the folder": (lambda folder: (folder / "extra.py").write_text("x"), UnknownFile),
    "hidden file in the folder": (lambda folder: (folder / ".hidden").write_text("x"), UnknownFile),
    "known file that is not listed": (lambda folder: (folder / "preview.png").write_text("x"), UnknownFile),
    "folder in the folder": (lambda folder: (folder / "more").mkdir(), UnknownFile),
    "undecodable name in the folder": (
        lambda folder: Path(os.fsdecode(b"%s/\xff" % bytes(folder))).touch(),
        UnknownFile,
    ),
    "unknown file in the manifest": (list_file("extra.py"), UnknownFile),
    "manifest lists itself": (list_file(MANIFEST_FILE), UnknownFile),
    "manifest lists an empty name": (list_file(""), UnknownFile),
    "parent folder in a file name": (list_file("../model.pt"), UnsafeFileName),
    "parent folder as a file name": (list_file(".."), UnsafeFileName),
    "this folder as a file name": (list_file("."), UnsafeFileName),
    "absolute file name": (list_file("/etc/passwd"), UnsafeFileName),
    "folder in a file name": (list_file("deep/model.pt"), UnsafeFileName),
    "trailing slash in a file name": (list_file("model.pt/"), UnsafeFileName),
    "backslash in a file name": (list_file("..\\model.pt"), UnsafeFileName),
    "NUL in a file name": (list_file("model.pt\0.txt"), UnsafeFileName),
    "endless file name": (list_file("x" * 256), ManifestInvalid),
    "probe neither there nor listed": (unlist(GOLDEN_FILE), MissingFile),
    "program neither there nor listed": (unlist(TORCHSCRIPT_FILE), MissingFile),
    "calibration neither there nor listed": (unlist(CALIBRATION_FILE), MissingFile),
    "other name": (change(name="other"), NameMismatch),
    "other version": (change(version=2), NameMismatch),
    "later schema": (change(schema_version=2), SchemaVersionUnknown),
    "negative schema": (change(schema_version=-1), SchemaVersionUnknown),
    "schema version as text": (change(schema_version="1"), ManifestInvalid),
    "schema version is true": (change(schema_version=True), ManifestInvalid),
    "no schema version": (lambda folder: rewrite_manifest(folder, lambda m: m.pop("schema_version")), ManifestInvalid),
    "version as text": (change(version="1"), ManifestInvalid),
    "version is a fraction": (change(version=1.5), ManifestInvalid),
    "version is true": (change(version=True), ManifestInvalid),
    "name that is none": (change(name="../tiny"), ManifestInvalid),
    "name with a line break": (change(name="tiny\n"), ManifestInvalid),
    "unknown field": (change(hooks=["os.system"]), ManifestInvalid),
    "unknown family": (change(family="adversarial"), ManifestInvalid),
    "unknown operation": (change(operations=["encode", "execute"]), ManifestInvalid),
    "files is a list": (change(files=["model.pt"]), ManifestInvalid),
    "no program": (change(artefacts={}), ManifestInvalid),
    "empty list of programs": (change(artefacts={"torchscript": []}), ManifestInvalid),
    "card as the program": (change(artefacts={"torchscript": [CARD_FILE]}), ManifestInvalid),
    "size below zero": (promise_size(-1), ManifestInvalid),
    "size as text": (promise_size("9"), ManifestInvalid),
    "size of an exabyte": (promise_size(10**18), SizeMismatch),
    "size beyond any machine": (promise_size(10**30), SizeMismatch),
    "number of a million digits": (rewrite_text(b'"version": 1', b'"version": ' + b"1" * 10**6), ManifestInvalid),
    "repeated key": (rewrite_text(b'"version": 1', b'"version": 1, "version": 1'), ManifestInvalid),
    "repeated key deep inside": (rewrite_text(b'"tied": false', b'"tied": true, "tied": false'), ManifestInvalid),
    "NaN in a field": (rewrite_text(b'"test_mse": 0.25', b'"test_mse": NaN'), ManifestInvalid),
    "NaN in a free field": (rewrite_text(b'"tied": false', b'"tied": NaN'), ManifestInvalid),
    "infinity in a free field": (rewrite_text(b'"tied": false', b'"tied": -Infinity'), ManifestInvalid),
    "number beyond a double": (rewrite_text(b'"tied": false', b'"tied": 1e999'), ManifestInvalid),
    "half a surrogate": (rewrite_text(b'"tied": false', rb'"tied": "\ud800"'), ManifestInvalid),
    "empty manifest": (write_manifest(b""), ManifestInvalid),
    "truncated manifest": (lambda folder: os.truncate(folder / MANIFEST_FILE, 100), ManifestInvalid),
    "manifest is not text": (write_manifest(b"\xff\xfe\x00"), ManifestInvalid),
    "manifest is not JSON": (write_manifest(b"name: tiny"), ManifestInvalid),
    "manifest is a list": (write_manifest(b"[]"), ManifestInvalid),
    "manifest is null": (write_manifest(b"null"), ManifestInvalid),
    "two manifests in one": (rewrite_text(b'{\n "schema_version"', b'{} {"schema_version"'), ManifestInvalid),
    "deeply nested manifest": (write_manifest(b"[" * 10**6), ManifestInvalid),
    "deeply nested free field": (
        rewrite_text(b'"tied": false', b'"tied": ' + b"[" * 10**5 + b"]" * 10**5),
        ManifestInvalid,
    ),
    "endless manifest": (on_manifest(lambda path: os.truncate(path, 100 * 2**20)), ManifestTooLarge),
}


@pytest.mark.usefixtures("nothing_is_deserialised")
@pytest.mark.parametrize("attack", DAMAGED_BUNDLE)
def test_a_damaged_bundle_is_refused_unopened(folder: Path, attack: str) -> None:
    damage, error = DAMAGED_BUNDLE[attack]
    damage(folder)
    with pytest.raises(BundleError) as refusal:
        read_bundle(folder)
    assert type(refusal.value) is error
    assert len(str(refusal.value)) < 2000


def test_the_bundle_under_attack_is_valid_before(folder: Path) -> None:
    assert dict(read_bundle(folder).files) == make_files()


@pytest.mark.parametrize("elsewhere", ["tiny/2", "other/1", "tiny/01"])
@pytest.mark.usefixtures("nothing_is_deserialised")
def test_a_bundle_moved_to_another_name_or_version_is_refused(folder: Path, elsewhere: str) -> None:
    target = folder.parents[1] / elsewhere
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    with pytest.raises(NameMismatch, match=elsewhere):
        read_bundle(target)


@pytest.mark.parametrize("claim", [MANIFEST_FILE, TORCHSCRIPT_FILE])
def test_a_huge_file_takes_no_memory(folder: Path, claim: str) -> None:
    """A sparse gigabyte stands where a small file belongs: neither it nor a false promise is read whole."""
    os.truncate(folder / claim, 2**30)
    tracemalloc.start()
    try:
        with pytest.raises((ManifestTooLarge, SizeMismatch)):
            read_bundle(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20


def test_a_refused_file_leaves_no_descriptor_open(folder: Path) -> None:
    replace_by_folder(folder / TORCHSCRIPT_FILE)
    with Path(os.devnull).open() as file:
        lowest_free = file.fileno()
    with pytest.raises(NotARegularFile):
        read_bundle(folder)
    with Path(os.devnull).open() as file:
        assert file.fileno() == lowest_free


def test_a_folder_that_is_not_there_has_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestMissing):
        read_bundle(tmp_path / "tiny" / "1")


def test_a_folder_removed_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "iterdir", lambda path: os.scandir(path / "gone"))
    with pytest.raises(MissingFile, match="removed"):
        read_bundle(folder)


def test_what_is_loaded_is_what_was_verified(folder: Path) -> None:
    """The bytes in memory were hashed; a later change of the folder reaches nobody."""
    bundle = read_bundle(folder)
    (folder / TORCHSCRIPT_FILE).write_bytes(b"something else")
    assert bundle.files[TORCHSCRIPT_FILE] == make_files()[TORCHSCRIPT_FILE]


def test_neighbours_of_a_damaged_bundle_are_read(tmp_path: Path) -> None:
    damaged, sound = publish(tmp_path), publish(tmp_path, version=2)
    (damaged / GOLDEN_FILE).unlink()
    with pytest.raises(MissingFile):
        read_bundle(damaged)
    assert read_bundle(sound).manifest.version == 2
