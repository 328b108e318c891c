"""What requests find at one moment: immutable, so that one assignment switches from one state to the next."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

from service.engine.desired import Desired
from service.engine.loaded import LoadedModel

__all__ = ["EMPTY", "Key", "View"]

Key = tuple[str, int]


class View(NamedTuple):
    """The bundles that can be found, by name and version."""

    loaded: Mapping[Key, LoadedModel]
    versions: Mapping[str, tuple[int, ...]]
    """Of each name, ascending."""
    answering: Mapping[str, LoadedModel]
    """What answers where no version is named. A name whose pinned version is not there may be missing."""
    by_text: Mapping[tuple[str, str], LoadedModel]
    """The same as `loaded`, by the version as paths have it."""

    @classmethod
    def of(cls, models: Mapping[Key, LoadedModel], wanted: Desired, *, before: "View") -> Self:
        """What is found when `models` are in memory. The newest version answers, or the pinned one and no other; until
        that can, the one that did before."""
        loaded = {key: models[key] for key in sorted(models) if not wanted.of(key[0]).unloaded}
        versions: dict[str, tuple[int, ...]] = {}
        for name, version in loaded:
            versions[name] = (*versions.get(name, ()), version)
        answering = {}
        for name, found in versions.items():
            version = wanted.of(name).pinned or found[-1]
            if version not in found and name in before.answering:
                version = before.answering[name].manifest.version
            if version in found:
                answering[name] = loaded[name, version]
        return cls(
            MappingProxyType(loaded),
            MappingProxyType(versions),
            MappingProxyType(answering),
            MappingProxyType({(name, str(version)): model for (name, version), model in loaded.items()}),
        )


EMPTY = View(*(MappingProxyType({}) for _ in View._fields))
