"""The settings: from the environment, checked before anything starts, all faults at once."""

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, warn_of_unknown_variables


def test_the_names_are_pinned_because_deployments_depend_on_them() -> None:
    assert set(Settings.model_fields) == {
        "api_keys_file",
        "compress_bytes",
        "cors_origins",
        "device",
        "drain_delay",
        "drain_seconds",
        "heartbeat_seconds",
        "host",
        "inline_ms",
        "log_format",
        "log_level",
        "log_share",
        "log_slow_ms",
        "max_batch_rows",
        "max_bodies_bytes",
        "max_body_bytes",
        "max_line_bytes",
        "max_pending_bytes",
        "max_pending_rows",
        "max_pixels",
        "max_rows",
        "metrics",
        "metrics_dir",
        "models_dir",
        "poll_seconds",
        "port",
        "receive_seconds",
        "request_timeout_ms",
        "require_signature",
        "runtime",
        "send_seconds",
        "stall_seconds",
        "state_dir",
        "strict",
        "tls_certificate",
        "tls_client_ca",
        "tls_key",
        "tls_key_password_file",
        "workers",
    }


def test_the_defaults_are_those_that_the_design_states() -> None:
    settings = Settings()
    assert settings.models_dir == Path("models")
    assert (settings.host, settings.port, settings.device) == ("127.0.0.1", 8000, "auto")
    assert (settings.poll_seconds, settings.state_dir, settings.strict) == (2, None, False)
    assert settings.max_line_bytes == 2**20
    assert (settings.max_body_bytes, settings.max_rows, settings.max_pending_rows) == (32 * 2**20, 4096, 8192)


def test_every_setting_has_a_description_and_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "models_dir": "/x",
        "host": "::1",
        "device": "cuda:3",
        "runtime": "torchscript",
        "strict": "1",
        "cors_origins": "https://x",
        "metrics": "0",
        "log_level": "debug",
        "log_format": "json",
        "log_share": "0.5",
    }
    for name, field in Settings.model_fields.items():
        assert field.description, name
        monkeypatch.setenv(f"DIABOLO_{name.upper()}", values.get(name, "17"))
    settings = Settings()
    for name, value in settings:
        assert value != Settings.model_fields[name].default, name
    assert (settings.port, settings.poll_seconds, settings.device) == (17, 17, "cuda:3")


@pytest.mark.parametrize("name", ["state_dir", "api_keys_file", "require_signature", "tls_certificate"])
def test_an_empty_path_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"DIABOLO_{name.upper()}", "")
    assert getattr(Settings(), name) is None


def test_what_is_given_in_code_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIABOLO_PORT", "9")
    assert Settings(port=10).port == 10


@pytest.mark.parametrize(
    ("given", "workers"),
    [
        ({}, 0),
        ({"WEB_CONCURRENCY": ""}, 0),
        ({"WEB_CONCURRENCY": "3"}, 3),
        ({"WEB_CONCURRENCY": "3", "DIABOLO_WORKERS": "2"}, 2),
        ({"WEB_CONCURRENCY": "3", "DIABOLO_WORKERS": "0"}, 0),
    ],
)
def test_workers_are_told_by_our_variable_or_else_by_that_of_the_platform(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], workers: int
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings().workers == workers
    assert Settings(workers=5).workers == 5


def test_a_platform_that_asks_for_no_number_of_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(ValidationError, match="WEB_CONCURRENCY: Input should be a valid integer"):
        Settings()
    monkeypatch.setenv("DIABOLO_WORKERS", "2")
    assert Settings().workers == 2


def test_all_faults_are_named_at_once_and_no_value_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PORT", "secret"), ("DEVICE", "gpu"), ("POLL_SECONDS", "0"), ("MAX_ROWS", "-1")):
        monkeypatch.setenv(f"DIABOLO_{name}", value)
    with pytest.raises(ValidationError) as refusal:
        Settings()
    assert {fault["loc"] for fault in refusal.value.errors()} == {
        ("port",),
        ("device",),
        ("poll_seconds",),
        ("max_rows",),
    }
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("port", "-1", "0"),
        ("port", "65536", "65535"),
        ("workers", "-1", "0"),
        ("heartbeat_seconds", "0", "0.5"),
        ("poll_seconds", "0", "0.01"),
        ("poll_seconds", "nan", "1e9"),
        ("max_body_bytes", "0", "1"),
        ("max_body_bytes", "1.5", "2"),
        ("max_rows", "0", "1"),
        ("max_pixels", "0", "1"),
        ("max_batch_rows", "0", "1"),
        ("max_pending_rows", "0", "4096"),
        ("max_pending_bytes", "0", "1"),
        ("request_timeout_ms", "-1", "0"),
        ("request_timeout_ms", "0.5", "1"),
        ("receive_seconds", "0", "0.5"),
        ("stall_seconds", "0", "0.5"),
        ("drain_delay", "-0.1", "0"),
        ("drain_seconds", "-1", "0"),
        ("strict", "maybe", "true"),
        ("log_level", "INFO", "info"),
        ("device", "cuda:", "cuda:0"),
        ("device", "cuda:-1", "cuda:10"),
        ("device", "mps", "cuda"),
        ("device", "cpu\n", "cpu"),
        ("device", "", "auto"),
    ],
)
def test_each_setting_has_a_range(monkeypatch: pytest.MonkeyPatch, name: str, wrong: str, right: str) -> None:
    monkeypatch.setenv(f"DIABOLO_{name.upper()}", right)
    Settings()
    monkeypatch.setenv(f"DIABOLO_{name.upper()}", wrong)
    with pytest.raises(ValidationError) as refusal:
        Settings()
    assert [fault["loc"] for fault in refusal.value.errors()] == [(name,)]


def test_a_request_that_is_allowed_must_fit_into_the_queue() -> None:
    assert Settings(max_rows=10, max_pending_rows=10).max_rows == 10
    with pytest.raises(ValidationError, match="DIABOLO_MAX_ROWS must not exceed DIABOLO_MAX_PENDING_ROWS"):
        Settings(max_rows=11, max_pending_rows=10)


def test_a_body_that_is_allowed_must_fit_into_what_is_held_at_a_time() -> None:
    assert Settings(max_body_bytes=10, max_bodies_bytes=10).max_bodies_bytes == 10
    with pytest.raises(ValidationError, match="DIABOLO_MAX_BODY_BYTES must not exceed DIABOLO_MAX_BODIES_BYTES"):
        Settings(max_body_bytes=11, max_bodies_bytes=10)


def test_a_key_without_its_certificate_is_refused() -> None:
    for name in ("tls_key", "tls_key_password_file", "tls_client_ca"):
        with pytest.raises(ValidationError, match="need DIABOLO_TLS_CERTIFICATE"):
            Settings(**{name: "x.pem"})  # type: ignore[arg-type]  # as from the environment


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # what the test is about


def test_a_misspelt_variable_is_named_with_what_was_probably_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in ("DIABOLO_MODEL_DIR", "DIABOLO_XYZZY", "DIABOLO_PORT", "OTHER_PORT"):
        monkeypatch.setenv(variable, "1")
    with caplog.at_level(logging.WARNING):
        warn_of_unknown_variables()
    assert [record.getMessage() for record in caplog.records] == [
        "DIABOLO_MODEL_DIR is no setting and is ignored; did you mean DIABOLO_MODELS_DIR?",
        "DIABOLO_XYZZY is no setting and is ignored",
    ]
