"""The file of API keys: what is in it, who may read it, and what becomes of it."""

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keys import KeyFile, KeyFileDamaged, Keyring, KeyScope, Rate, digest_of
from tests.key_files import key_of, write_keys

DIGEST = "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_has_256_random_bits_and_the_file_only_what_they_hash_to(file: KeyFile) -> None:
    first, second = (file.add(name, scopes=[KeyScope.INFER]) for name in ("first", "second"))
    assert re.fullmatch(r"diabolo_[A-Za-z0-9_-]{43}", first)
    assert first != second
    text = file.path.read_text()
    assert first not in text
    assert first.removeprefix("diabolo_") not in text
    assert json.loads(text)["keys"][0] == {
        "name": "first",
        "scopes": ["infer"],
        "sha256": hashlib.sha256(first.encode()).hexdigest(),
    }


def test_a_key_is_found_by_itself_alone(file: KeyFile) -> None:
    rate = Rate(requests_per_second=2.5, burst=7)
    key = file.add("ci", scopes=[KeyScope.INFER, KeyScope.METRICS], rate=rate)
    keyring = file.read().keyring
    found = keyring.find(key.encode())
    assert found is not None
    assert (found.name, found.scopes, found.rate) == ("ci", frozenset({KeyScope.INFER, KeyScope.METRICS}), rate)
    for other in (key[:-1], key + "=", key.upper(), f" {key}", "", found.sha256, key.removeprefix("diabolo_")):
        assert keyring.find(other.encode()) is None


@given(st.binary(max_size=100))
def test_no_other_bytes_are_a_key(given_bytes: bytes) -> None:
    assert Keyring(keys=(key_of("ci", secret="diabolo_x"),)).find(given_bytes) is None


def test_a_removed_key_is_not_found_and_the_others_are(file: KeyFile) -> None:
    kept, gone = (file.add(name, scopes=[KeyScope.ADMIN]) for name in ("kept", "gone"))
    file.remove("gone")
    keyring = file.read().keyring
    assert keyring.find(gone.encode()) is None
    assert keyring.find(kept.encode()) is not None
    with pytest.raises(ValueError, match=r"^there is no key of the name gone; there is kept$"):
        file.remove("gone")


@pytest.mark.parametrize("name", ["", "a b", "-a", "ä", "a/b", "a" * 65, "a\n"])
def test_a_name_that_would_not_fit_into_a_line_of_a_log_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(ValueError, match="a name has letters"):
        file.add(name, scopes=[KeyScope.INFER])
    assert not file.path.exists()


def test_names_are_taken_once(file: KeyFile) -> None:
    file.add("ci", scopes=[KeyScope.INFER])
    before = file.path.read_bytes()
    with pytest.raises(ValueError, match="there is a key of the name ci"):
        file.add("ci", scopes=[KeyScope.ADMIN])
    assert file.path.read_bytes() == before


def test_a_new_file_is_its_owners_alone_and_who_could_read_an_old_one_still_can(file: KeyFile) -> None:
    before = os.umask(0)
    try:
        file.add("first", scopes=[KeyScope.INFER])
        assert permissions(file.path) == 0o600
        assert not file.read().exposed
        file.path.chmod(0o640)
        file.add("second", scopes=[KeyScope.INFER])
        assert permissions(file.path) == 0o640
        assert file.read().exposed
    finally:
        os.umask(before)


def test_what_a_killed_writer_left_behind_is_in_nobodys_way(file: KeyFile) -> None:
    (file.path.parent / ".keys.json.new").write_text("half a f")
    file.add("ci", scopes=[KeyScope.INFER])
    assert [key.name for key in file.read().keyring.keys] == ["ci"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "Invalid JSON"),
        ("[]", "an object"),
        ('{"keys": [}', "Invalid JSON"),
        ({"schema_version": 2}, "schema_version"),
        ({"keys": [{"name": "a", "scopes": ["infer"], "sha256": "0"}]}, "keys.0.sha256"),
        ({"keys": [{"name": "a", "scopes": ["infer"], "sha256": DIGEST + "\n"}]}, "keys.0.sha256"),
        ({"keys": [{"name": "a", "scopes": ["root"], "sha256": DIGEST}]}, "keys.0.scopes"),
        ({"keys": [{"name": "a", "scopes": [], "sha256": DIGEST}]}, "keys.0.scopes"),
        ({"keys": [{"name": "a", "scopes": ["infer"], "sha256": DIGEST, "key": "x"}]}, "keys.0.key"),
        ({"keys": [{"name": "a", "scopes": ["infer"], "sha256": DIGEST}] * 2}, "one name or one digest"),
        (
            {"keys": [{"name": name, "scopes": ["infer"], "sha256": DIGEST} for name in "ab"]},
            "one name or one digest",
        ),
        (
            {
                "keys": [
                    {
                        "name": "a",
                        "scopes": ["infer"],
                        "sha256": DIGEST,
                        "rate": {"requests_per_second": 0, "burst": 1},
                    }
                ]
            },
            "keys.0.rate.requests_per_second",
        ),
        (" " * (2**20 + 1), "1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_is_damaged_and_nothing_is_written_over_it(
    file: KeyFile, content: Any, says: str
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    file.path.write_text(text)
    with pytest.raises(KeyFileDamaged, match=says) as refused:
        file.read()
    assert str(file.path) not in str(refused.value)
    with pytest.raises(KeyFileDamaged):
        file.add("b", scopes=[KeyScope.INFER])
    assert file.path.read_text() == text


def test_a_file_that_is_not_there_or_is_none_cannot_be_read(file: KeyFile) -> None:
    with pytest.raises(KeyFileDamaged, match="it cannot be read: No such file"):
        file.read()
    assert file.stamp() is None
    file.path.mkdir()
    with pytest.raises(KeyFileDamaged, match="it cannot be read: Is a directory"):
        file.read()


def test_the_stamp_differs_after_every_change(file: KeyFile) -> None:
    write_keys(file.path)
    stamps = {file.read().stamp}
    assert stamps == {file.stamp()}
    for name in ("a", "b"):
        file.add(name, scopes=[KeyScope.INFER])
        assert file.stamp() not in stamps
        stamps.add(file.read().stamp)


def test_a_digest_is_that_of_sha_256() -> None:
    assert digest_of(b"abc").hex().startswith("ba7816bf8f01cfea")
