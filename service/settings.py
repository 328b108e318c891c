"""Everything that can be set, from the environment, validated before anything starts."""

import difflib
import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings", "warn_of_unknown_variables"]

PREFIX = "DIABOLO_"
OTHER_COMMANDS = ("DATA_DIR",)  # `diabolo train` reads these
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s,*]+$")]
logger = logging.getLogger("diabolo")


class Settings(BaseSettings):
    """The service's settings. Each is read from the variable of its name in capitals, after `DIABOLO_`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    models_dir: Path = Field(Path("models"), description="the folder of bundles, <name>/<version>/")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; auto takes a GPU if there is one",
    )
    runtime: Literal["auto", "torchscript", "onnx"] = Field(
        "auto", description="auto, torchscript or onnx; auto takes onnx on the CPU for the bundles that have it"
    )
    tls_certificate: Path | None = Field(
        None, description="the certificate to serve HTTPS with, and those between it and its root (PEM); none: HTTP"
    )
    tls_key: Path | None = Field(None, description="the certificate's private key (PEM); none: it is in the same file")
    tls_key_password_file: Path | None = Field(
        None, description="the file whose first line opens the private key; none: the key is not encrypted"
    )
    tls_client_ca: Path | None = Field(
        None, description="the authorities that clients must have a certificate of (PEM); none: they need none"
    )
    workers: int = Field(0, ge=0, description="worker processes; 0: one for a GPU, else one for each core, at most 4")
    heartbeat_seconds: float = Field(
        30.0, gt=0, description="of several workers, one whose event loop stands still for so many seconds is replaced"
    )
    poll_seconds: float = Field(2, gt=0, description="how often the folder of bundles is looked at, in seconds")
    state_dir: Path | None = Field(None, description="the folder that keeps pins and unloads; none: they are refused")
    require_signature: Path | None = Field(
        None, description="the public key that bundles must be signed with; none: signatures are not looked at"
    )
    api_keys_file: Path | None = Field(
        None, description="the file of API keys; none: everybody may infer and nobody may administer"
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        (),
        description="origins whose pages may call the service from a browser, with commas between them; none: no other",
    )
    strict: bool = Field(False, description="a refused bundle at start is fatal")
    max_body_bytes: int = Field(32 * 2**20, gt=0, description="the largest body that is read, in bytes")
    max_bodies_bytes: int = Field(
        2**25, gt=0, description="the most bytes of large bodies and answers that a process holds; past it: 503"
    )
    max_line_bytes: int = Field(2**20, gt=0, description="the longest line of a stream, in bytes")
    compress_bytes: int = Field(
        16_384,
        ge=0,
        description="JSON answers from so many bytes on are compressed where the client can read that; 0: none",
    )
    max_rows: int = Field(4096, gt=0, description="the most rows in one request")
    max_pixels: int = Field(2**24, gt=0, description="the largest image that is decoded, in pixels")
    max_batch_rows: int = Field(256, gt=0, description="the most rows in one forward pass")
    inline_ms: float = Field(
        2.0,
        ge=0,
        description="forward passes measured to take less than so many milliseconds run on the event loop; 0: none",
    )
    max_pending_rows: int = Field(8192, gt=0, description="the most rows that wait for one bundle; past it: 503")
    max_pending_bytes: int = Field(
        2**27, gt=0, description="the most bytes that the rows that wait for one bundle have; past it: 503"
    )
    request_timeout_ms: int = Field(
        0, ge=0, description="requests that do not say Request-Timeout-Ms have so many milliseconds; 0: no end"
    )
    receive_seconds: float = Field(
        30.0, gt=0, description="seconds that a request may take to come; a body has one more for every 16 KiB"
    )
    send_seconds: float = Field(
        60.0, gt=0, description="a client that takes nothing of its answer for so many seconds is cut off"
    )
    stall_seconds: float = Field(
        30.0, gt=0, description="a bundle whose forward pass has not come back for so many seconds is not ready"
    )
    drain_delay: float = Field(
        0, ge=0, description="seconds between turning not ready on SIGTERM and refusing new connections"
    )
    drain_seconds: int = Field(8, ge=0, description="seconds that requests in flight may take to end on SIGTERM")
    metrics: bool = Field(True, description="requests are counted, and GET /metrics says what Prometheus reads")
    metrics_dir: Path | None = Field(
        None, description="the folder in which workers share their metrics; none: a temporary one"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")
    log_format: Literal["text", "json"] = Field("text", description="text to stderr, or JSON, a line each, to stdout")
    log_share: float = Field(
        1.0, ge=0, le=1, description="the share of requests that are logged; failures always are, some slow ones too"
    )
    log_slow_ms: float = Field(1000.0, gt=0, description="requests that take so many milliseconds are slow")

    @field_validator(
        *("state_dir", "require_signature", "api_keys_file", "metrics_dir"),
        *("tls_certificate", "tls_key", "tls_key_password_file", "tls_client_ca"),
        mode="before",
    )
    @classmethod
    def _none(cls, value: Any) -> Any:
        """Compose files pass on variables that are not set as empty ones; an empty path would be this folder."""
        return value or None

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _platforms(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What many platforms set for every service counts where nobody says anything of workers."""
        concurrency = os.environ.get("WEB_CONCURRENCY")
        if not concurrency or "workers" in values:
            return values
        if not concurrency.isdecimal():
            raise ValueError("WEB_CONCURRENCY: Input should be a valid integer, the number of worker processes")
        return {**values, "workers": concurrency}

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.runtime == "onnx" and self.device.startswith("cuda"):
            raise ValueError("DIABOLO_RUNTIME=onnx runs on the CPU alone: use auto, or DIABOLO_DEVICE=cpu")
        if not self.tls_certificate and (self.tls_key or self.tls_key_password_file or self.tls_client_ca):
            raise ValueError("DIABOLO_TLS_KEY and what else there is for TLS need DIABOLO_TLS_CERTIFICATE")
        if self.max_body_bytes > self.max_bodies_bytes:
            raise ValueError("DIABOLO_MAX_BODY_BYTES must not exceed DIABOLO_MAX_BODIES_BYTES")
        if self.max_rows > self.max_pending_rows:
            raise ValueError("DIABOLO_MAX_ROWS must not exceed DIABOLO_MAX_PENDING_ROWS")
        return self


def warn_of_unknown_variables() -> None:
    """A variable that starts like a setting but is none is logged, with the setting that was probably meant."""
    known = [*(name.upper() for name in Settings.model_fields), *OTHER_COMMANDS]
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            logger.warning("%s is no setting and is ignored%s", variable, hint)
