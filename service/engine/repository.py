"""The bundles that are served: found, verified and loaded off the request path, then switched in by one assignment."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bundle.errors import BundleError
from bundle.read import Location, read_bundle, scan
from service.engine.loaded import LoadedModel, Proven, prove
from service.engine.runtimes import OpenRuntime
from service.errors import ModelLoading, UnknownModel, UnknownVersion

__all__ = ["Key", "Refusal", "Repository"]

Key = tuple[str, int]
logger = logging.getLogger("diabolo.repository")


class Refusal(NamedTuple):
    """Why a version is not served. `fingerprint` tells whether its folder has changed since."""

    name: str
    version: int
    reason: str
    detail: str
    fingerprint: frozenset[tuple[str, int, int]]


class Repository:
    """The folder of bundles as a mapping of what is loaded, kept up to date by `watch`.

    Readers see an immutable mapping: (name, version) -> LoadedModel. A version that is refused never takes the place of
    one that is served.
    """

    def __init__(
        self,
        root: Path,
        *,
        open_runtime: OpenRuntime,
        make_loaded: Callable[[Proven], LoadedModel],
        drain_seconds: float,
    ) -> None:
        self._root = root
        self._open_runtime = open_runtime
        self._make_loaded = make_loaded
        self._drain_seconds = drain_seconds
        self._scanned = False
        self.held = False
        self._retiring: set[asyncio.Task[None]] = set()
        self.loaded: Mapping[Key, LoadedModel] = MappingProxyType({})
        self.refused: Mapping[Key, Refusal] = MappingProxyType({})

    @property
    def scanned(self) -> bool:
        """True once the folder has been gone through for the first time."""
        return self._scanned

    @property
    def unserved(self) -> list[str]:
        """Names that are in the folder but have no version that can answer."""
        served = {name for (name, _), model in self.loaded.items() if model.batcher.alive}
        return sorted({name for name, _ in (*self.refused, *self.loaded)} - served)

    @property
    def complete(self) -> bool:
        """True when the first scan is done and every name has a version that can answer."""
        return self._scanned and not self.unserved

    @property
    def ready(self) -> bool:
        """True when it is complete, and `held` by nobody."""
        return self.complete and not self.held

    def newest(self) -> list[LoadedModel]:
        """The newest loaded version of every name, by name."""
        return list({name: self.loaded[name, version] for name, version in sorted(self.loaded)}.values())

    def versions(self, name: str) -> list[int]:
        """The loaded versions of `name`, ascending."""
        return sorted(version for loaded_name, version in self.loaded if loaded_name == name)

    def get(self, name: str, version: str | None = None) -> LoadedModel:
        """The bundle of that name, its newest version unless one is given.

        Raises UnknownModel or UnknownVersion; ModelLoading while the first scan is still going on.
        """
        versions = self.versions(name)
        if not self._scanned and (not versions or (version is not None and version not in map(str, versions))):
            raise ModelLoading("the bundles are still being loaded", retry_after=1)
        if not versions:
            names = ", ".join(sorted({known for known, _ in self.loaded})) or "no bundle at all"
            raise UnknownModel(f"no model is called {name[:64]!r}; served here: {names}")
        if version is None:
            return self.loaded[name, versions[-1]]
        if version not in map(str, versions):
            raise UnknownVersion(f"{name} has no version {version[:20]!r}; it has {', '.join(map(str, versions))}")
        return self.loaded[name, int(version)]

    async def watch(self, poll_seconds: float) -> None:
        """Keeps what is loaded equal to what is in the folder, for ever."""
        while True:
            try:
                await self.refresh()
            except OSError as error:
                logger.error("the folder of bundles cannot be listed: %s", error.strerror)
            except Exception:  # a fault of our own must not end the watch in silence
                logger.exception("looking through the folder of bundles failed")
            await asyncio.sleep(poll_seconds)

    async def refresh(self) -> None:
        """What is loaded is what is in the folder now: new versions are in, removed ones retire, damaged ones are
        refused. Each version appears as soon as it is proven. Raises OSError when the folder cannot be listed."""
        locations = await asyncio.to_thread(scan, self._root)
        present = {(location.name, location.version) for location in locations}
        for location in locations:
            await self._consider(location)
        self._retire(key for key in self.loaded if key not in present)
        self.refused = MappingProxyType({key: refusal for key, refusal in self.refused.items() if key in present})
        if not self._scanned:
            self._scanned = True
            served = ", ".join(model.label for model in self.newest()) or "no bundle: the folder is empty"
            logger.info("serving %s", served)

    async def close(self) -> None:
        """Every bundle has drained and is closed."""
        self._retire(self.loaded)
        await asyncio.gather(*self._retiring)

    async def _consider(self, location: Location) -> None:
        key = (location.name, location.version)
        if key in self.loaded:
            return
        fingerprint = await asyncio.to_thread(_fingerprint, location.path)
        if key in self.refused and self.refused[key].fingerprint == fingerprint:
            return
        try:
            proven = await asyncio.to_thread(prove, partial(read_bundle, location.path), self._open_runtime)
        except BundleError as error:
            refusal = Refusal(*key, error.reason, str(error), fingerprint)
        except OSError as error:  # the disk's trouble, not the folder's: no fingerprint, so that it is tried again
            refusal = Refusal(*key, "unreadable", error.strerror or "the folder cannot be read", frozenset())
        except Exception:  # a runtime may raise anything, and one bundle must not keep the others from being served
            logger.exception("the program of %s/%d cannot be run", *key)
            refusal = Refusal(
                *key, "runtime-failed", "its program cannot be run here; the log has the cause", fingerprint
            )
        else:
            model = self._make_loaded(proven)
            self.loaded = MappingProxyType({**self.loaded, key: model})
            self.refused = MappingProxyType({k: v for k, v in self.refused.items() if k != key})
            logger.info(
                "loaded %s in %s on %s in %.2f s", model.label, model.platform, model.device, model.load_seconds
            )
            return
        if self.refused.get(key) != refusal:
            logger.error("refused %s/%d: %s: %s", refusal.name, refusal.version, refusal.reason, refusal.detail)
        self.refused = MappingProxyType({**self.refused, key: refusal})

    def _retire(self, keys: Iterable[Key]) -> None:
        """The versions are no longer found; they finish what they have accepted."""
        retired = {key: self.loaded[key] for key in keys}
        self.loaded = MappingProxyType({key: model for key, model in self.loaded.items() if key not in retired})
        for model in retired.values():
            logger.info("retiring %s", model.label)
            task = asyncio.create_task(model.batcher.close(self._drain_seconds))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


def _fingerprint(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Changes when a file of the folder does, its permissions included: name, size and ctime of each."""
    try:
        entries = [(entry.name, entry.lstat()) for entry in folder.iterdir()]
    except OSError:
        return frozenset()
    return frozenset((name, status.st_size, status.st_ctime_ns) for name, status in entries)
