"""What the tests of the service stand on, for tests that are named after failures seen elsewhere."""

from tests.service.conftest import _no_settings_from_outside, anyio_backend, models, root, served

__all__ = ["_no_settings_from_outside", "anyio_backend", "models", "root", "served"]
