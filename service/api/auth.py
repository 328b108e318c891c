"""Who may ask: API keys by `Authorization: Bearer` or `X-API-Key`, and how often."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.types import Scope

from service.api.posted import Posted
from service.errors import AdministrationOff, RateLimited, ScopeMissing, ServiceError, Unauthenticated
from service.keys import ApiKey, KeyFile, KeyFileDamaged, Keyring, KeyScope, Rate, Stamp

__all__ = ["ACCESS_ERRORS", "ADMIN_ERRORS", "Guard"]

ACCESS_ERRORS: tuple[type[ServiceError], ...] = (Unauthenticated, ScopeMissing, RateLimited)
ADMIN_ERRORS: tuple[type[ServiceError], ...] = (*ACCESS_ERRORS, AdministrationOff)
REALM = 'Bearer realm="diabolo"'
BEARER = HTTPBearer(scheme_name="bearer", description="`Authorization: Bearer <key>`", auto_error=False)
API_KEY = APIKeyHeader(name="X-API-Key", scheme_name="api_key", description="`X-API-Key: <key>`", auto_error=False)
HOW = "send it as Authorization: Bearer <key>, or as X-API-Key: <key>"
logger = logging.getLogger("diabolo.keys")


class Bucket:
    """A token bucket that is full at first: each request takes a token, and `rate` says how fast they come back."""

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float) -> float:
        """Takes a token if there is one, and returns 0; else the seconds until there is."""
        self._tokens = min(self.rate.burst, self._tokens + (now - self._at) * self.rate.requests_per_second)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate.requests_per_second


class Guard:
    """Lets requests in, or raises why not. Without a file of keys everybody may do everything but administer; with one,
    nobody may do anything until `start` has read it."""

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = None if path is None else KeyFile(path)
        self._clock = clock
        self._keyring = Keyring()
        self._buckets: dict[str, Bucket] = {}
        self._seen: Stamp | None = None

    @property
    def has_keys(self) -> bool:
        """True where keys are asked for."""
        return self._file is not None

    async def __call__(
        self,
        request: Request,
        scopes: SecurityScopes,
        _bearer: Annotated[Any, Security(BEARER)],
        _api_key: Annotated[Any, Security(API_KEY)],
    ) -> None:
        """For FastAPI, as a dependency of routes that need a scope; the last two are for the document."""
        self.admit(request.scope, Posted.of(request).fields, KeyScope(scopes.scopes[0]))

    def admit(self, scope: Scope, fields: Mapping[bytes, bytes], needed: KeyScope) -> None:
        """Returns where the request may do what needs this scope; `scope["client_key"]` is then the name of its key.

        Raises AdministrationOff, Unauthenticated, ScopeMissing or RateLimited.
        """
        if self._file is None:
            if needed is KeyScope.ADMIN:
                raise AdministrationOff("this service was started without DIABOLO_API_KEYS_FILE, so nobody may do this")
            return
        key = self._key_of(fields)
        scope["client_key"] = key.name
        if needed not in key.scopes:
            raise ScopeMissing(
                f"this needs a key with the scope {needed}; this key has {', '.join(sorted(key.scopes))}",
                headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{needed}"'},
            )
        if key.rate is not None:
            self._limit(key, key.rate)

    def _key_of(self, fields: Mapping[bytes, bytes]) -> ApiKey:
        scheme, _, given = fields.get(b"authorization", b"").partition(b" ")
        given = given.strip() if scheme.lower() == b"bearer" else fields.get(b"x-api-key", b"")
        if not given:
            raise Unauthenticated(f"this needs an API key: {HOW}", headers={"WWW-Authenticate": REALM})
        key = self._keyring.find(given)
        if key is None:
            fault = f'{REALM}, error="invalid_token"'
            raise Unauthenticated("this API key is not known, or not any more", headers={"WWW-Authenticate": fault})
        return key

    def _limit(self, key: ApiKey, rate: Rate) -> None:
        now = self._clock()
        bucket = self._buckets.get(key.name)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[key.name] = Bucket(rate, now)
        if wait := bucket.take(now):
            raise RateLimited(
                f"this key may ask {rate.requests_per_second:g} times a second, {rate.burst} times at once",
                retry_after=math.ceil(wait),
            )

    async def start(self) -> None:
        """What the file says is in force. Raises KeyFileDamaged."""
        if self._file is not None:
            self._seen = await asyncio.to_thread(self._file.stamp)
            await self._read(self._file)

    async def follow(self) -> None:
        """What the file says is in force. Where it is damaged, what it said before stays so, and the log says why."""
        if self._file is None:
            return
        stamp = await asyncio.to_thread(self._file.stamp)
        if stamp == self._seen:
            return
        self._seen = stamp  # even if it cannot be read: that is said once
        try:
            await self._read(self._file)
        except KeyFileDamaged as error:
            logger.error("the file of API keys: %s; the keys that were known stay in force", error)

    async def watch(self, seconds: float) -> None:
        """Follows the file for ever, looking at it so often."""
        while self._file is not None:
            await asyncio.sleep(seconds)
            try:
                await self.follow()
            except Exception:  # a fault of our own must not end this in silence
                logger.exception("following the file of API keys failed")

    async def _read(self, file: KeyFile) -> None:
        found = await asyncio.to_thread(file.read)
        self._keyring, self._seen = found.keyring, found.stamp
        names = {key.name for key in found.keyring.keys}
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if name in names}
        if found.exposed:
            logger.warning("others than its owner may read or change the file of API keys: chmod 600")
        logger.info("API keys: %s", ", ".join(sorted(names)) or "none at all, so nobody is let in")
