"""The table of errors: catalogs, logs and metrics show the reasons, so each is one word of its own."""

import re
from collections.abc import Iterator

import pytest

from bundle import errors
from bundle.errors import BundleError


def subclasses(error: type[BundleError]) -> Iterator[type[BundleError]]:
    for child in error.__subclasses__():
        yield child
        yield from subclasses(child)


ERRORS = sorted(set(subclasses(BundleError)), key=lambda error: error.__name__)


def test_every_error_is_public_and_in_the_one_file() -> None:
    assert sorted([BundleError.__name__, *(error.__name__ for error in ERRORS)]) == sorted(errors.__all__)
    assert {error.__module__ for error in ERRORS} == {"bundle.errors"}


def test_reasons_are_unique() -> None:
    reasons = [BundleError.reason, *(error.reason for error in ERRORS)]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_names_its_reason_and_says_what_it_means(error: type[BundleError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.reason)
    assert error.reason.replace("-", "") == error.__name__.lower()
    assert error.__doc__ != BundleError.__doc__
    assert (error.__doc__ or "").endswith(".")
