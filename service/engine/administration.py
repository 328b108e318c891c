"""Loading, pinning and unloading by hand: written down as what is wanted, which every worker then follows."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from service.engine.acknowledgements import Acknowledger, pending
from service.engine.desired import StateFile, Wish
from service.engine.repository import Repository
from service.errors import ModelLoading, NoStateKept, ServiceError, StateUnavailable, UnknownModel

__all__ = ["Administration", "Outcome"]

FOLLOW_SECONDS = 0.25  # one small local file, so this costs nothing
ASK_SECONDS = 0.05
TRY_SECONDS = 60.0
logger = logging.getLogger("diabolo.state")


class Outcome(NamedTuple):
    """What is wanted now has this revision; `pending` names the live workers that do not serve it (yet), and why."""

    revision: int
    pending: Mapping[str, str]


class Administration:
    """What is wanted of the bundles of a repository, kept in a folder; without a folder all of them are."""

    def __init__(self, repository: Repository, folder: Path | None, *, patience_seconds: float) -> None:
        self._repository = repository
        self._state = None if folder is None else StateFile(folder)
        self._acknowledger = None if folder is None else Acknowledger(folder)
        self._patience_seconds = patience_seconds
        self._following = asyncio.Lock()
        self._mute = False
        self.known = folder is None
        """True once it has been read what is wanted."""
        self.problem: str | None = None
        """Why what is wanted cannot be read just now."""

    @property
    def revision(self) -> int | None:
        """The revision that is in force; None without a folder, and before it could be read."""
        return self._repository.wanted.revision if self._state is not None and self.known else None

    async def watch(self, poll_seconds: float) -> None:
        """What is loaded follows the folder of bundles and the state file, for ever. Nothing is loaded until that could
        be read once: it may say that the newest version must not answer."""
        while True:
            await self.follow()
            if self.known:
                break
            await asyncio.sleep(FOLLOW_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repository.watch(poll_seconds))
            if self._state is not None:
                group.create_task(self._follow_for_ever())

    async def follow(self) -> None:
        """What the state file says is wanted, and how far it is in force has been acknowledged. Where the file is wrong
        or cannot be read, what it said before stays in force, and `problem` and the log say so."""
        if self._state is None:
            return
        async with self._following:
            try:
                desired = await asyncio.to_thread(self._state.read)
            except ServiceError as error:
                if self.problem != error.detail:
                    stays = "what it said before stays in force" if self.known else "nothing is loaded until it is read"
                    logger.error("%s; %s", error.detail, stays)
                self.problem = error.detail
            else:
                self.problem = None
                if not self.known or desired != self._repository.wanted:
                    logger.info("revision %d is wanted: %s", desired.revision, desired.in_words())
                    self.known = True
                    self._repository.want(desired)
            await self._acknowledge()

    async def pin(self, name: str, version: int) -> Outcome:
        """This version of `name` answers where none is named, and no other. It was proven here before."""
        return await self._change(name, lambda wish: wish.pin(version))

    async def unpin(self, name: str) -> Outcome:
        """`name` is loaded, and its newest version answers."""
        return await self._change(name, Wish.unpin)

    async def load(self, name: str) -> Outcome:
        """`name` is loaded; if a version of it is pinned, it stays so."""
        return await self._change(name, Wish.load)

    async def unload(self, name: str) -> Outcome:
        """No version of `name` is in memory; if one is pinned, it will be again when the name is loaded."""
        return await self._change(name, Wish.unload)

    def close(self) -> None:
        """This worker counts no more among those that acknowledge."""
        if self._acknowledger is not None:
            self._acknowledger.close()

    async def _change(self, name: str, change: Callable[[Wish], Wish]) -> Outcome:
        """Raises NoStateKept, StateDamaged or StateUnavailable; UnknownModel, UnknownVersion, VersionRefused or
        ModelLoading. Nothing has changed then."""
        if self._state is None:
            raise NoStateKept("this service was started without DIABOLO_STATE_DIR, so it cannot keep what is wanted")
        desired = await asyncio.to_thread(self._state.read)
        await self._possible(name, change(desired.of(name)), known=name in desired.models)
        desired = await asyncio.to_thread(self._state.change, name, change)
        return await self._in_force(self._state.folder, name, desired.revision)

    async def _possible(self, name: str, wish: Wish, *, known: bool) -> None:
        """Returns when what is wanted of the name can be had here, now. Where the newest version is to answer, that is
        the newest that the folder holds now, not when it was last looked at: who copies a version there and then loads
        the name finds it."""
        repository = self._repository
        versions = repository.versions(name)
        if wish.unloaded:
            if not known and name not in repository.names:
                repository.get(name)  # says what is wrong
            return
        if wish.pinned in versions:
            return
        try:
            await asyncio.wait_for(repository.try_out(name, wish.pinned), TRY_SECONDS)
        except UnknownModel:
            if not known or wish.pinned is not None:
                raise
        except TimeoutError:
            if not versions or wish.pinned is not None:
                raise ModelLoading("other bundles are still being loaded", retry_after=5) from None
        except OSError as error:
            raise StateUnavailable(f"the folder of bundles cannot be listed: {error.strerror}") from None

    async def _in_force(self, folder: Path, name: str, revision: int) -> Outcome:
        """All live workers have acknowledged, or patience is at its end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_seconds
        while True:
            await self.follow()
            waiting = await asyncio.to_thread(pending, folder, name, revision=revision)
            if not waiting or loop.time() >= deadline:
                return Outcome(revision, waiting)
            await asyncio.sleep(ASK_SECONDS)

    async def _follow_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self.follow()
            except Exception:  # a fault of our own must not end this in silence
                logger.exception("following the state file failed")

    async def _acknowledge(self) -> None:
        assert self._acknowledger is not None
        repository = self._repository
        # Before the first scan it is not known what there is to be served.
        revision, unmet = (repository.wanted.revision, repository.unmet) if repository.scanned else (-1, {})
        looked, decided = repository.looked, repository.wanted.models
        try:
            await asyncio.to_thread(self._acknowledger.write, revision, unmet, looked=looked, decided=decided)
            self._mute = False
        except OSError as error:
            if not self._mute:
                logger.error("this worker cannot acknowledge what is wanted: %s", error.strerror)
            self._mute = True
