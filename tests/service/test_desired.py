"""What is wanted, on disk: readable by hand, replaced as a whole, never lost."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from service.engine import desired as module
from service.engine.acknowledgements import Acknowledger
from service.engine.desired import NOTHING, STATE_FILE, Desired, StateFile, Wish
from service.errors import StateDamaged, StateUnavailable
from tests.service.programs import PATIENCE


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    """A state file that is not there yet."""
    return StateFile(tmp_path)


def text(state: StateFile) -> str:
    return (state.folder / STATE_FILE).read_text()


def test_without_a_file_nothing_special_is_wanted(state: StateFile) -> None:
    assert state.read() == NOTHING
    assert state.read().of("tiny") == Wish(pinned=None, unloaded=False)


def test_what_is_wanted_can_be_read_by_hand_and_written_by_hand(state: StateFile) -> None:
    state.change("wide", lambda wish: wish.unload())
    assert state.change("tiny", lambda wish: wish.pin(2)) == state.read()
    assert text(state) == (
        "{\n"
        '  "schema_version": 1,\n'
        '  "revision": 2,\n'
        '  "models": {\n'
        '    "tiny": {\n'
        '      "pinned": 2\n'
        "    },\n"
        '    "wide": {\n'
        '      "unloaded": true\n'
        "    }\n"
        "  }\n"
        "}\n"
    )
    (state.folder / STATE_FILE).write_text('{"models": {"tiny": {"pinned": 3}}}')
    assert state.read() == Desired(models={"tiny": Wish(pinned=3)})


def test_unloading_keeps_the_pin_and_loading_brings_it_back(state: StateFile) -> None:
    state.change("tiny", lambda wish: wish.pin(2))
    state.change("tiny", lambda wish: wish.unload())
    assert state.read().of("tiny") == Wish(pinned=2, unloaded=True)
    state.change("tiny", lambda wish: wish.load())
    assert state.read().of("tiny") == Wish(pinned=2)
    state.change("tiny", lambda wish: wish.unload())
    state.change("tiny", lambda wish: wish.pin(1))
    assert state.read().of("tiny") == Wish(pinned=1)
    state.change("tiny", lambda wish: wish.unpin())
    assert state.read() == Desired(revision=6), "a name of which nothing special is wanted is not kept"


def test_what_changes_nothing_is_not_written(state: StateFile) -> None:
    first = state.change("tiny", lambda wish: wish.pin(2))
    inode = (state.folder / STATE_FILE).stat().st_ino
    assert state.change("tiny", lambda wish: wish.pin(2)) == first
    assert (state.folder / STATE_FILE).stat().st_ino == inode


def test_to_let_the_newest_answer_is_a_new_revision_each_time_so_that_every_worker_looks_for_it(
    state: StateFile,
) -> None:
    for revision, change in enumerate((Wish.unpin, Wish.load, Wish.unpin), start=1):
        assert state.change("tiny", change) == state.read() == Desired(revision=revision)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"schema_version": 2}', "schema_version: Input should be 1"),
        ('{"revision": -1}', "revision: "),
        ('{"models": {"tiny": {"pinned": "2"}}}', "models.tiny.pinned: Input should be a valid integer"),
        ('{"models": {"tiny": {"pinned": 0}}}', "models.tiny.pinned: "),
        ('{"models": {"tiny": {"pin": 2}}}', "models.tiny.pin: Extra inputs are not permitted"),
        ('{"models": {"../x": {"pinned": 2}}}', "models"),
        ('{"model": {}}', "model: Extra inputs are not permitted"),
        (" " * (2**20 + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_meant_is_named_and_not_written_over(state: StateFile, content: str, says: str) -> None:
    (state.folder / STATE_FILE).write_text(content)
    with pytest.raises(StateDamaged) as read:
        state.read()
    assert says in read.value.detail
    with pytest.raises(StateDamaged):
        state.change("tiny", lambda wish: wish.pin(2))
    assert text(state) == content


def test_a_folder_that_is_gone_is_not_the_same_as_no_file(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "gone")
    with pytest.raises(StateUnavailable, match="is not there"):
        state.read()
    with pytest.raises(StateUnavailable, match="No such file or directory"):
        state.change("tiny", lambda wish: wish.pin(2))


def test_of_changes_at_the_same_time_none_is_lost(state: StateFile) -> None:
    names = [f"m{number}" for number in range(8)]
    start, revisions = threading.Barrier(len(names)), []

    def change(name: str) -> None:
        start.wait(PATIENCE)
        revisions.append(state.change(name, lambda wish: wish.pin(1)).revision)

    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert list(state.read().models) == names
    assert sorted(revisions) == list(range(1, 9)), "each had its turn"


def test_whoever_holds_the_lock_for_ever_does_not_hold_up_others_for_ever(
    state: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.change("tiny", lambda wish: wish.pin(1))
    monkeypatch.setattr(module, "LOCK_SECONDS", 0)
    with (state.folder / module.LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StateUnavailable, match="somebody else has been changing"):
            state.change("tiny", lambda wish: wish.pin(2))
    assert state.change("tiny", lambda wish: wish.pin(2)).revision == 2


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_what_was_wanted_before(
    state: StateFile, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = state.change("tiny", lambda wish: wish.pin(1))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(Path if step == "replace" else os, step, refuse)
        with pytest.raises(StateUnavailable, match="cannot be written: No space left on device"):
            state.change("tiny", lambda wish: wish.pin(2))
    assert state.read() == before
    # As after a kill, the unfinished file is still there, and in nobody's way.
    assert (state.folder / module.NEW_FILE).exists()
    assert state.change("tiny", lambda wish: wish.pin(2)).of("tiny") == Wish(pinned=2)


def test_a_revision_is_never_used_twice_though_an_older_file_is_put_back(state: StateFile) -> None:
    first = state.change("tiny", lambda wish: wish.pin(1))
    backup = text(state)
    worker = Acknowledger(state.folder)
    state.change("tiny", lambda wish: wish.pin(2))
    worker.write(state.change("tiny", lambda wish: wish.pin(3)).revision, {})
    (state.folder / STATE_FILE).write_text(backup)
    assert state.read() == first
    assert state.change("tiny", lambda wish: wish.pin(4)).revision == 4
    worker.close()


def test_the_example_in_the_docs_is_a_state(state: StateFile) -> None:
    text = (Path(__file__).parents[2] / "docs" / "repository.md").read_text()
    (state.folder / STATE_FILE).write_text(text.partition("```json\n")[2].partition("```")[0])
    assert state.read() == Desired(
        revision=7, models={"fashion-conv": Wish(unloaded=True), "fashion-vae": Wish(pinned=2)}
    )
