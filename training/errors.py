"""What can be wrong before or while a bundle is made, each told in a sentence that says what would be right."""

__all__ = ["ConfigInvalid", "DataUnavailable", "ParityError", "TrainingError"]


class TrainingError(Exception):
    """A run that cannot go on. The text says why, and what would be right."""


class ConfigInvalid(TrainingError):
    """The configuration contradicts itself, or the data; the text names every fault."""


class DataUnavailable(TrainingError):
    """The data set is neither on this machine nor to be had, or its files are damaged."""


class ParityError(TrainingError):
    """The exported program does not compute what the network computes."""
