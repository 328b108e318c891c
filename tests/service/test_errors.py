"""The table of errors: what clients depend on."""

import re

from service import errors
from service.errors import error_classes


def test_every_error_has_a_slug_of_its_own_a_status_a_title_and_a_text() -> None:
    table = error_classes()
    assert len(table) == len({error.slug for error in table}) == len({error.title for error in table})
    for error in table:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.slug)
        assert 400 <= error.status < 600
        assert error.__doc__
        assert error.title == error.slug.replace("-", " ").capitalize()
    assert set(errors.__all__) == {error.__name__ for error in table} | {
        "DeviceUnavailable",
        "Fault",
        "ServiceError",
        "error_classes",
    }


def test_the_slugs_are_pinned_because_clients_depend_on_them() -> None:
    assert [f"{error.status} {error.slug}" for error in error_classes()] == [
        "400 malformed-body",
        "400 malformed-field",
        "400 malformed-request",
        "401 unauthenticated",
        "403 administration-off",
        "403 scope-missing",
        "404 not-found",
        "404 unknown-example",
        "404 unknown-model",
        "404 unknown-version",
        "405 method-not-allowed",
        "406 not-acceptable",
        "408 request-too-slow",
        "409 no-state-kept",
        "409 not-calibrated",
        "409 operation-not-supported",
        "409 state-damaged",
        "409 version-refused",
        "413 body-too-large",
        "413 line-too-long",
        "413 too-many-pixels",
        "413 too-many-rows",
        "415 unsupported-media-type",
        "422 invalid-content",
        "429 rate-limited",
        "431 head-too-large",
        "500 internal-error",
        "503 draining",
        "503 model-loading",
        "503 out-of-memory",
        "503 overloaded",
        "503 pinned-version-unavailable",
        "503 state-unavailable",
        "504 deadline-exceeded",
    ]
