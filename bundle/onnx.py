"""The one place that keeps onnxruntime from telling its makers about its use.

Importing version 1.32 opens a database of telemetry in the user's cache folder. Nobody who serves a bundle has asked
for that, and it warns wherever the folder cannot be written, as in our container.
"""

import os

__all__ = ["refuse_telemetry"]


def refuse_telemetry() -> None:
    """From here on an import of onnxruntime in this process, or in one that it starts, collects no telemetry; unless
    ORT_DISABLE_TELEMETRY is set already, to whatever that says."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
