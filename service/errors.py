"""The table of everything that the service refuses: one class per reason, with its status and its slug.

A slug never changes once released; `/problems/<slug>` on the service explains it. Texts given to these classes reach
clients, so they never hold exception texts, paths or tensor values.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

__all__ = [
    "AdministrationOff",
    "BodyTooLarge",
    "DeadlineExceeded",
    "DeviceUnavailable",
    "Draining",
    "Fault",
    "HeadTooLarge",
    "InternalError",
    "InvalidContent",
    "LineTooLong",
    "MalformedBody",
    "MalformedField",
    "MalformedRequest",
    "MethodNotAllowed",
    "ModelLoading",
    "NoStateKept",
    "NotAcceptable",
    "NotCalibrated",
    "NotFound",
    "OperationNotSupported",
    "OutOfMemory",
    "Overloaded",
    "PinnedVersionUnavailable",
    "RateLimited",
    "RequestTooSlow",
    "ScopeMissing",
    "ServiceError",
    "StateDamaged",
    "StateUnavailable",
    "TooManyPixels",
    "TooManyRows",
    "Unauthenticated",
    "UnknownExample",
    "UnknownModel",
    "UnknownVersion",
    "UnsupportedMediaType",
    "VersionRefused",
    "error_classes",
]


class Fault(NamedTuple):
    """One thing that is wrong with a request. `pointer` is a JSON Pointer fragment into the body (RFC 6901)."""

    detail: str
    pointer: str


class ServiceError(Exception):
    """A request that is refused. Subclasses are the table; each docstring is the text of its `/problems/` page."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.retry_after = retry_after


class MalformedBody(ServiceError):
    """The body cannot be parsed as the media type that it claims to be: broken JSON, a damaged .npy file or image."""

    status, slug, title = 400, "malformed-body", "Malformed body"


class MalformedField(ServiceError):
    """A field of the request's head has a value that it cannot have; the text says what it may be."""

    status, slug, title = 400, "malformed-field", "Malformed field"


class MalformedRequest(ServiceError):
    """What came cannot be read as a request of HTTP/1.1: its first line, one of its fields, or how its body is divided.
    The connection is closed."""

    status, slug, title = 400, "malformed-request", "Malformed request"


class Unauthenticated(ServiceError):
    """This service asks for an API key, and there was none, or none that it knows. Send it as
    `Authorization: Bearer <key>` or as `X-API-Key: <key>`; the service's operator gives keys out."""

    status, slug, title = 401, "unauthenticated", "Unauthenticated"


class AdministrationOff(ServiceError):
    """Nobody may load, pin or unload over HTTP: the service was started without `DIABOLO_API_KEYS_FILE`, so it cannot
    tell who may. The command `diabolo models` needs no key."""

    status, slug, title = 403, "administration-off", "Administration off"


class ScopeMissing(ServiceError):
    """The API key is known, but is not for this; the text says which scope it lacks."""

    status, slug, title = 403, "scope-missing", "Scope missing"


class NotFound(ServiceError):
    """There is nothing at this path. `/docs` lists what there is."""

    status, slug, title = 404, "not-found", "Not found"


class UnknownModel(ServiceError):
    """No bundle of that name is served. `GET /v1/models` lists the names."""

    status, slug, title = 404, "unknown-model", "Unknown model"


class UnknownVersion(ServiceError):
    """The bundle exists, but not in that version. `GET /v1/models` lists the versions."""

    status, slug, title = 404, "unknown-version", "Unknown version"


class UnknownExample(ServiceError):
    """A bundle carries a few example rows, counted from 0; there is none of that number."""

    status, slug, title = 404, "unknown-example", "Unknown example"


class MethodNotAllowed(ServiceError):
    """The path exists, but not for this HTTP method; the `Allow` field names those that it takes."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class NotAcceptable(ServiceError):
    """The answer cannot be given in any media type of the `Accept` field. Rows are pictures only if the bundle's inputs
    are images, and codes and scores never are."""

    status, slug, title = 406, "not-acceptable", "Not acceptable"


class RequestTooSlow(ServiceError):
    """The head of the request, or its body, did not come in `DIABOLO_RECEIVE_SECONDS`; a body may take a second more
    for every 16 KiB. The connection is closed. Streams may take as long as they like."""

    status, slug, title = 408, "request-too-slow", "Request too slow"


class OperationNotSupported(ServiceError):
    """The bundle cannot do this: its catalog entry lists the operations that it can."""

    status, slug, title = 409, "operation-not-supported", "Operation not supported"


class NotCalibrated(ServiceError):
    """The bundle was published without calibration scores, so there are no p-values and `alpha` has no meaning. Raw
    scores are still answered, and `threshold` can be given."""

    status, slug, title = 409, "not-calibrated", "Not calibrated"


class NoStateKept(ServiceError):
    """Pins and unloads are kept in the folder `DIABOLO_STATE_DIR`, and this service was started without one."""

    status, slug, title = 409, "no-state-kept", "No state kept"


class StateDamaged(ServiceError):
    """The file of pins and unloads, `desired.json` in `DIABOLO_STATE_DIR`, was edited to something that cannot be. What
    it said before stays in force, and nothing is written over it: repair or remove it."""

    status, slug, title = 409, "state-damaged", "State damaged"


class VersionRefused(ServiceError):
    """The version is in the folder of bundles, but it was refused and cannot answer. Nothing has changed. Its catalog
    entry says why, and the log says more."""

    status, slug, title = 409, "version-refused", "Version refused"


class BodyTooLarge(ServiceError):
    """The body has more bytes than `DIABOLO_MAX_BODY_BYTES`. Send fewer rows at a time."""

    status, slug, title = 413, "body-too-large", "Body too large"


class LineTooLong(ServiceError):
    """A line of a stream has more bytes than `DIABOLO_MAX_LINE_BYTES`. Its rest was passed over; the lines after it are
    answered."""

    status, slug, title = 413, "line-too-long", "Line too long"


class TooManyRows(ServiceError):
    """The request asks for more rows than `DIABOLO_MAX_ROWS`. Send fewer rows at a time."""

    status, slug, title = 413, "too-many-rows", "Too many rows"


class TooManyPixels(ServiceError):
    """The image has more pixels than `DIABOLO_MAX_PIXELS`; it was not decoded."""

    status, slug, title = 413, "too-many-pixels", "Too many pixels"


class UnsupportedMediaType(ServiceError):
    """The body's `Content-Type` is not one that this operation reads; the `Accept` field names those."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class InvalidContent(ServiceError):
    """The body can be read but says something that cannot be done: a wrong shape or type, a value that is not finite,
    an unknown or missing field, an `alpha` that the calibration cannot resolve. `errors` points at every place."""

    status, slug, title = 422, "invalid-content", "Invalid content"


class RateLimited(ServiceError):
    """The API key was used more often than it may be. Nothing was done. Try again after the number of seconds in
    `Retry-After`."""

    status, slug, title = 429, "rate-limited", "Rate limited"


class HeadTooLarge(ServiceError):
    """The fields of the request's head have more bytes than are read. The connection is closed."""

    status, slug, title = 431, "head-too-large", "Head too large"


class InternalError(ServiceError):
    """A fault of the service, not of the request. The log has the cause under the same `request_id`."""

    status, slug, title = 500, "internal-error", "Internal error"


class ModelLoading(ServiceError):
    """The service has just started and is still verifying and loading its bundles."""

    status, slug, title = 503, "model-loading", "Model loading"


class Overloaded(ServiceError):
    """The bundle's queue is full, by rows or by bytes, or as many bytes of bodies are held as may be. Nothing was done.
    Try again after the number of seconds in `Retry-After`."""

    status, slug, title = 503, "overloaded", "Overloaded"


class OutOfMemory(ServiceError):
    """The device has no memory for these rows just now, not even one by one. Others in the same forward pass were
    answered."""

    status, slug, title = 503, "out-of-memory", "Out of memory"


class Draining(ServiceError):
    """The service, or this version of the bundle, is shutting down and takes no new work."""

    status, slug, title = 503, "draining", "Draining"


class PinnedVersionUnavailable(ServiceError):
    """The name is pinned to a version that is not there or was refused, and no other answers in its place. Other
    versions answer under `/versions/`; an operator puts the pinned one back or pins another."""

    status, slug, title = 503, "pinned-version-unavailable", "Pinned version unavailable"


class StateUnavailable(ServiceError):
    """The file of pins and unloads cannot be read or written at the moment; the text says why."""

    status, slug, title = 503, "state-unavailable", "State unavailable"


class DeadlineExceeded(ServiceError):
    """The answer was not there within the milliseconds of the request's `Request-Timeout-Ms` field or, without one, of
    `DIABOLO_REQUEST_TIMEOUT_MS`. What had not been computed by then never will be."""

    status, slug, title = 504, "deadline-exceeded", "Deadline exceeded"


class DeviceUnavailable(Exception):
    """The device that the settings ask for is not there. The text names it and says what is."""


def error_classes() -> list[type[ServiceError]]:
    """The whole table, in order of status and slug."""
    return sorted(ServiceError.__subclasses__(), key=lambda error: (error.status, error.slug))
