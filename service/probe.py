"""The health check of the container: whether the service beside it is ready. It comes every few seconds, so it imports
nothing that takes long."""

import os
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection

__all__ = ["is_ready"]

TIMEOUT_SECONDS = 2.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def is_ready(environment: Mapping[str, str]) -> bool:
    """True where the service with these settings answers that it is ready; where it asks for a certificate, which the
    probe has not, true where it answers with its own."""
    host = environment.get("DIABOLO_HOST") or "127.0.0.1"
    port = int(environment.get("DIABOLO_PORT") or 8000)
    connection = HTTPConnection(EVERYWHERE.get(host, host), port, timeout=TIMEOUT_SECONDS)
    if environment.get("DIABOLO_TLS_CERTIFICATE"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the certificate is for the names that others know
        connection = HTTPSConnection(connection.host, port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.connect()
        if environment.get("DIABOLO_TLS_CLIENT_CA"):
            return True
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_ready(os.environ))
