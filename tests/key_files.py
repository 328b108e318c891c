"""Files of API keys whose keys are known."""

import json
from pathlib import Path

from service.keys import ApiKey, KeyScope, Rate, digest_of

__all__ = ["ALL_SCOPES", "KEY", "key_of", "write_keys"]

KEY = "diabolo_known-to-all-tests"
ALL_SCOPES = tuple(KeyScope)


def key_of(name: str, *scopes: KeyScope, rate: Rate | None = None, secret: str = KEY) -> ApiKey:
    """A key as the file has it."""
    digest = digest_of(secret.encode()).hex()
    return ApiKey(name=name, scopes=frozenset(scopes or ALL_SCOPES), sha256=digest, rate=rate)


def write_keys(path: Path, *keys: ApiKey) -> Path:
    """The file has these keys, or KEY for everything; returned."""
    documents = [key.document() for key in keys or (key_of("test"),)]
    path.write_text(json.dumps({"schema_version": 1, "keys": documents}))
    path.chmod(0o600)
    return path
