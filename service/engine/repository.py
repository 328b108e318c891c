"""The bundles that are served: found, verified and loaded off the request path, then switched in by one assignment."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from bundle.read import Bundle
from service.engine.batcher import Batcher
from service.engine.desired import NOTHING, Desired
from service.engine.folder import Fingerprint, Place, look
from service.engine.loaded import LoadedModel, Proven
from service.engine.loader import Loader
from service.engine.memory import give_back
from service.engine.refusals import Refusal, Refusals
from service.engine.retirement import Retirement
from service.engine.runtimes import OpenRuntime
from service.engine.view import EMPTY, Key, View
from service.errors import (
    ModelLoading,
    PinnedVersionUnavailable,
    ServiceError,
    UnknownModel,
    UnknownVersion,
    VersionRefused,
)

__all__ = ["Repository"]

logger = logging.getLogger("diabolo.repository")


class Repository:
    """The folder of bundles as what is loaded, kept up to date by `watch`, less what `wanted` unloads.

    Readers see an immutable view. A version that is refused never takes the place of one that is served.
    """

    def __init__(
        self,
        root: Path,
        *,
        open_runtime: OpenRuntime,
        make_loaded: Callable[[Proven], LoadedModel],
        drain_seconds: float,
        read: Callable[[Path], Bundle] | None = None,
    ) -> None:
        self._root = root
        self._loader = Loader(open_runtime, read=read)
        self._make_loaded = make_loaded
        self._retirement = Retirement(drain_seconds)
        self._scanned = False
        self._looking = asyncio.Lock()
        self._due = asyncio.Event()
        self._places: Mapping[Key, Place] = {}
        self._models: dict[Key, LoadedModel] = {}
        self._fingerprints: dict[Key, Fingerprint] = {}
        self._view = EMPTY
        self._untidy = False
        self.held = False
        self.wanted = NOTHING
        self.looked = False
        """True once the folder has been gone through since that was wanted: what is newest there is known."""
        self._refusals = Refusals()

    @property
    def scanned(self) -> bool:
        """True once the folder has been gone through for the first time."""
        return self._scanned

    @property
    def loaded(self) -> Mapping[Key, LoadedModel]:
        """What can be found, by name and version, in order."""
        return self._view.loaded

    @property
    def batchers(self) -> list[Batcher]:
        """Of all versions that requests may wait for, those included that retire."""
        return [*(model.batcher for model in self._models.values()), *self._retirement.batchers]

    @property
    def refused(self) -> Mapping[Key, Refusal]:
        """Why versions are not served as they stand in the folder."""
        return self._refusals.by_key

    @property
    def refusals(self) -> Counter[tuple[str, str]]:
        """How often a version was refused, by name and reason."""
        return self._refusals.counts

    @property
    def names(self) -> set[str]:
        """What was in the folder when it was last looked at, served or not."""
        return {name for name, _ in self._places}

    @property
    def unloaded(self) -> list[Key]:
        """Versions that are in the folder and would be loaded if that were not unwanted."""
        return sorted(key for key in self._places if self.wanted.of(key[0]).unloaded)

    @property
    def unserved(self) -> list[str]:
        """Names that have been looked at, are wanted, and have no version that can answer."""
        served = {name for name, model in self._view.answering.items() if model.batcher.alive}
        known = {name for name, _ in (*self.refused, *self._models) if not self.wanted.of(name).unloaded}
        return sorted(known - served)

    @property
    def unmet(self) -> dict[str, str]:
        """Names that are not served as wanted (yet), and why."""
        names = self.names | set(self.wanted.models)
        loading = dict(key for key in self._places if key not in self._models and key not in self.refused)
        shortfalls = {name: self._shortfall(name, loading.get(name)) for name in sorted(names)}
        return {name: shortfall for name, shortfall in shortfalls.items() if shortfall}

    @property
    def complete(self) -> bool:
        """True when the first scan is done and every name has a version that can answer."""
        return self._scanned and not self.unserved

    @property
    def ready(self) -> bool:
        """True when it is complete, and `held` by nobody."""
        return self.complete and not self.held

    def answering(self) -> list[LoadedModel]:
        """What answers where no version is named, by name."""
        return list(self._view.answering.values())

    def versions(self, name: str) -> list[int]:
        """The versions of `name` that can be found, ascending."""
        return list(self._view.versions.get(name, ()))

    def get(self, name: str, version: str | None = None) -> LoadedModel:
        """The bundle of that name: the version that is given, else the pinned one, else the newest.

        Raises UnknownModel, UnknownVersion or PinnedVersionUnavailable; ModelLoading while the first scan goes on.
        """
        view = self._view
        try:
            return view.answering[name] if version is None else view.by_text[name, version]
        except KeyError:
            raise self._missing(name, version) from None

    def want(self, desired: Desired) -> None:
        """Pins are in force as far as they can be, and what is unloaded retires; what has to be loaded is on its way,
        if the folder is watched."""
        self.wanted = desired
        self.looked = False
        self._forget()
        self._due.set()

    async def watch(self, poll_seconds: float) -> None:
        """Keeps what is loaded equal to what is in the folder and wanted, for ever."""
        while True:
            self._due.clear()
            try:
                await self.refresh()
            except OSError as error:
                logger.error("the folder of bundles cannot be listed: %s", error.strerror)
            except Exception:  # a fault of our own must not end the watch in silence
                logger.exception("looking through the folder of bundles failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), poll_seconds)

    async def refresh(self) -> None:
        """What is loaded is what is in the folder now: new versions are in, removed ones retire, damaged ones are
        refused. Each version appears as soon as it is proven. Raises OSError when the folder cannot be listed."""
        async with self._looking:
            wanted = self.wanted
            self._places = await asyncio.to_thread(look, self._root)
            for key, place in self._places.items():
                if not self.wanted.of(key[0]).unloaded:
                    await self._consider(key, place)
            self._forget()
            if self._untidy:
                self._untidy = False
                await asyncio.to_thread(give_back)
            self.looked = self.wanted is wanted
        if not self._scanned:
            self._scanned = True
            served = ", ".join(model.label for model in self.answering()) or "no bundle: the folder is empty"
            logger.info("serving %s", served)

    async def try_out(self, name: str, version: int | None) -> None:
        """The folder holds this version of `name`, or at least one, and it was proven here, whatever was refused
        before; it is found, unless the name is unloaded, and need not be loaded again if it is wanted soon.

        Raises UnknownModel, UnknownVersion or VersionRefused; OSError when the folder cannot be listed.
        """
        async with self._looking:
            self._places = await asyncio.to_thread(look, self._root)
            if not any(known == name for known, _ in self._places):
                raise self._unknown(name)
            tried = {key: place for key, place in self._places.items() if key[0] == name and version in (None, key[1])}
            for key, place in tried.items():
                await self._consider(key, place, again=True)
        if not tried:
            there = ", ".join(str(other) for known, other in self._places if known == name)
            raise UnknownVersion(f"{name} has no version {version}; it has {there}")
        if not any(key in self._models and self._models[key].batcher.alive for key in tried):
            refusals = [f"version {key[1]}: {self.refused[key]}" for key in tried if key in self.refused]
            raise VersionRefused(f"{name} cannot be served: {'; '.join(refusals) or 'its queue has stopped'}")

    async def close(self) -> None:
        """Every bundle has drained and is closed."""
        for key in list(self._models):
            self._drop(key)
        self._show()
        await self._retirement.close()
        self._loader.close()

    async def _consider(self, key: Key, place: Place, *, again: bool = False) -> None:
        """The version is loaded, or refused, or both: where a folder was damaged after it was loaded. What is refused
        and has not changed is not tried `again`, unless that is asked for."""
        if place.fingerprint == self._fingerprints.get(key):
            self._refusals.absolve(key)
            return
        if not again and self._refusals.hold(key, place.fingerprint):
            return
        loaded = self._models.get(key)
        try:
            digest = loaded.digest if loaded else None
            proven = await self._loader.prove(place.path, other_than=digest, beside=self._scanned)
        except Exception as error:  # a runtime may raise anything, and one bundle must not keep out the others
            self._untidy = True
            if not again and not place.is_as_it_was():
                return  # it is being copied, or removed: what it is then, the next look tells
            self._refusals.add(key, error, fingerprint=place.fingerprint, served=key in self._models)
        else:
            self._fingerprints[key] = place.fingerprint
            self._refusals.absolve(key)
            if proven is not None:
                self._load(key, proven)

    def _load(self, key: Key, proven: Proven) -> None:
        model = self._make_loaded(proven)
        if key in self._models:
            logger.warning("%s was replaced on disk by other content: publish new versions instead", model.label)
            self._retirement.add(self._models[key])
        self._models[key] = model
        self._untidy = True
        self._show()
        logger.info("loaded %s in %s on %s in %.2f s", model.label, model.platform, model.device, model.load_seconds)

    def _forget(self) -> None:
        """What is not in the folder or not wanted is not found, and retires."""
        kept = {key for key in self._places if not self.wanted.of(key[0]).unloaded}
        gone = [key for key in self._models if key not in kept]
        self._refusals.keep(kept)
        for key in gone:
            self._drop(key)
        self._show()

    def _drop(self, key: Key) -> None:
        self._fingerprints.pop(key, None)
        self._retirement.add(self._models.pop(key))

    def _show(self) -> None:
        self._view = View.of(self._models, self.wanted, before=self._view)

    def _missing(self, name: str, version: str | None) -> ServiceError:
        """Why `get` finds nothing."""
        versions = self.versions(name)
        if not self._scanned:
            return ModelLoading("the bundles are still being loaded", retry_after=1)
        if not versions:
            return self._unknown(name)
        if version is None:
            return PinnedVersionUnavailable(f"{name} is pinned: {self._shortfall(name, None)}")
        return UnknownVersion(f"{name} has no version {version[:20]!r}; it has {', '.join(map(str, versions))}")

    def _unknown(self, name: str) -> UnknownModel:
        if any(known == name for known, _ in self.unloaded):
            return UnknownModel(f"{name} is unloaded; POST /v2/repository/models/{name}/load serves it again")
        refused = [
            f"version {key[1]} was refused: {refusal}" for key, refusal in self.refused.items() if key[0] == name
        ]
        if refused:
            return UnknownModel(f"{name} has no version that can be served; {'; '.join(refused)}")
        names = ", ".join(self._view.versions) or "no bundle at all"
        return UnknownModel(f"no model is called {name[:64]!r}; served here: {names}")

    def _shortfall(self, name: str, loading: int | None) -> str | None:
        """Why the name, whose version `loading` has not been looked at yet, is not served as wanted; None where it is
        so."""
        wish, answering = self.wanted.of(name), self._view.answering.get(name)
        if wish.unloaded:
            return None
        if wish.pinned is None:
            if loading is not None:
                return f"version {loading} is being loaded"
            if answering is None:
                return "no version of it can be served"
            for refusal in self.refused.values():
                if refusal.passing and refusal.name == name and refusal.version > answering.manifest.version:
                    return f"version {refusal.version} was refused: {refusal}"
            return None
        if answering is not None and answering.manifest.version == wish.pinned:
            return None
        key = (name, wish.pinned)
        if key in self.refused:
            return f"version {wish.pinned} was refused: {self.refused[key]}"
        if key in self._places or not self._scanned:
            return f"version {wish.pinned} is being loaded"
        return f"version {wish.pinned} is not in the folder"
