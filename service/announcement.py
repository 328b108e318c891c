"""What the person who started the service reads first: where it is, and what to try."""

import logging
import sys

from bundle.read import scan
from service.settings import Settings

__all__ = ["announce"]

logger = logging.getLogger("diabolo")


def announce(settings: Settings, port: int) -> None:
    """The address, its documentation and a call that works are printed; where logs are JSON, a line of that says it."""
    host = settings.host if settings.host not in {"0.0.0.0", "::"} else "127.0.0.1"
    scheme = "http" if settings.tls_certificate is None else "https"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    names = [location.name for location in scan(settings.models_dir)]
    model = f"{address}/v1/models/{'fashion-vae' if 'fashion-vae' in names or not names else names[0]}"
    if settings.log_format == "json":
        logger.info("serving at %s", address)
        return
    sys.stdout.write(
        f"\nDiabolo serves  {address}\n"
        f"docs            {address}/docs\n"
        f"try             curl -s {model}/examples/4 |\n"
        f"                  curl -H 'Accept: image/png' --data-binary @- -o picture.png {model}/reconstruct\n\n"
    )
    sys.stdout.flush()
