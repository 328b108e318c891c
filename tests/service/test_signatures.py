"""Signatures: what is not signed, was altered, or was signed by somebody else is refused before anything is opened."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from model_signing import signing, verifying
from typer.testing import CliRunner

from bundle.errors import BundleError, HashMismatch, NotARegularFile, SignatureInvalid, SignatureMissing
from bundle.golden import Golden
from bundle.read import read_bundle
from cli.main import EXTRAS, app
from service.app import create_app
from service.engine.desired import STATE_FILE
from service.engine.runtimes import selection
from service.engine.signatures import KeyUnusable, require_signature, sign
from service.settings import Settings
from tests.bundle_factory import forge, publish, rewrite_manifest, run
from tests.key_files import KEY, write_keys
from tests.service.programs import FakeRuntime
from tests.service.serving import serving


def save(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, path: Path, *, password: str | None = None) -> Path:
    """The key is at `path`, its public half beside it as `.pub`."""
    how: KeySerializationEncryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return save(ec.generate_private_key(ec.SECP256R1()), tmp_path / "key.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish(tmp_path / "models")


def signed(folder: Path, key: Path) -> Path:
    sign(folder, read_bundle(folder).hashes, key=key, to=folder / "model.sig")
    return folder


def read(folder: Path, key: Path) -> object:
    return read_bundle(folder, check_signature=require_signature(key.with_suffix(".pub")))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_was_signed_is_read(folder: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key = save(ec.generate_private_key(curve), tmp_path / "curve.pem")
    assert read(signed(folder, key), key)


def test_without_a_key_signatures_are_not_looked_at(folder: Path) -> None:
    (folder / "model.sig").write_bytes(b"nonsense")
    assert read_bundle(folder).manifest.name == "tiny"


def test_other_tools_understand_our_signatures(folder: Path, key: Path) -> None:
    signed(folder, key)
    config = verifying.Config()  # type: ignore[no-untyped-call]
    config.use_elliptic_key_verifier(public_key=key.with_suffix(".pub")).verify(folder, folder / "model.sig")


def test_signatures_of_other_tools_are_understood(folder: Path, key: Path) -> None:
    config = signing.Config()  # type: ignore[no-untyped-call]
    config.use_elliptic_key_signer(private_key=key).sign(folder, folder / "model.sig")
    assert read(folder, key)


def alter(name: str) -> Callable[[Path], object]:
    """The file is another one, and the manifest says so."""
    return lambda folder: forge(folder, name, (folder / name).read_bytes() + b" ")


def alter_payload(folder: Path) -> None:
    """The signature says something else than what was signed."""
    fields = json.loads((folder / "model.sig").read_text())
    payload = b64decode(fields["dsseEnvelope"]["payload"]).replace(b"model.pt", b"model.qt")
    fields["dsseEnvelope"]["payload"] = b64encode(payload).decode()
    (folder / "model.sig").write_text(json.dumps(fields))


def of_another_bundle(folder: Path) -> None:
    other = publish(folder.parents[1], name="other")
    (folder / "model.sig").write_bytes((signed(other, folder.parents[2] / "key.pem") / "model.sig").read_bytes())


def by_another_key(folder: Path) -> None:
    signed(folder, save(ec.generate_private_key(ec.SECP256R1()), folder.parents[2] / "other.pem"))


def by_another_key_that_claims_to_be_ours(folder: Path) -> None:
    ours = json.loads((folder / "model.sig").read_text())["verificationMaterial"]
    by_another_key(folder)
    fields = json.loads((folder / "model.sig").read_text())
    (folder / "model.sig").write_text(json.dumps(fields | {"verificationMaterial": ours}))


def unlist(folder: Path) -> None:
    (folder / "CARD.md").unlink()
    rewrite_manifest(folder, lambda manifest: manifest["files"].pop("CARD.md"))


def link(folder: Path) -> None:
    path = folder / "model.sig"
    path.rename(folder.parents[2] / "model.sig")
    path.symlink_to(folder.parents[2] / "model.sig")


def pipe(folder: Path) -> None:
    (folder / "model.sig").unlink()
    os.mkfifo(folder / "model.sig")


def write(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.sig").write_bytes(content)


ATTACKS: dict[str, tuple[Callable[[Path], object], type[BundleError]]] = {
    "unsigned": (lambda folder: (folder / "model.sig").unlink(), SignatureMissing),
    "altered program": (alter("model.pt"), SignatureInvalid),
    "altered probe": (alter("golden.npz"), SignatureInvalid),
    "altered manifest": (
        lambda folder: rewrite_manifest(folder, lambda m: m.update(description="?")),
        SignatureInvalid,
    ),
    "altered file alone": (lambda folder: (folder / "CARD.md").write_bytes(b"# tinY\n"), HashMismatch),
    "file less": (unlist, SignatureInvalid),
    "altered signature": (alter_payload, SignatureInvalid),
    "signature of another bundle": (of_another_bundle, SignatureInvalid),
    "other key": (by_another_key, SignatureInvalid),
    "other key that claims to be ours": (by_another_key_that_claims_to_be_ours, SignatureInvalid),
    "empty": (write(b""), SignatureInvalid),
    "no JSON": (write(b"\xff"), SignatureInvalid),
    "other JSON": (write(b"[]"), SignatureInvalid),
    "deeply nested": (write(b"[" * 10**5), SignatureInvalid),
    "too large": (write(b" " * (2**20 + 1)), SignatureInvalid),
    "link": (link, NotARegularFile),
    "pipe": (pipe, NotARegularFile),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_else_is_read_and_nothing_of_it_opened(
    folder: Path, key: Path, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed(folder, key)
    damage, error = ATTACKS[attack]
    damage(folder)
    monkeypatch.setattr(Golden, "from_bytes", lambda _: pytest.fail("the probe was parsed"))
    with pytest.raises(BundleError) as refusal:
        read(folder, key)
    assert type(refusal.value) is error
    assert "\n" not in str(refusal.value)


def test_a_signature_counts_for_what_was_read_not_for_what_is_in_the_folder_then(folder: Path, key: Path) -> None:
    signed(folder, key)
    check = require_signature(key.with_suffix(".pub"))
    hashes = read_bundle(folder).hashes
    check(folder / "model.sig", hashes)
    with pytest.raises(SignatureInvalid):
        check(folder / "model.sig", hashes | {"model.pt": "0" * 64})
    for path in folder.iterdir():
        if path.name != "model.sig":
            path.unlink()
    check(folder / "model.sig", hashes)


def test_a_key_that_cannot_be_used_is_told_at_once(tmp_path: Path, key: Path) -> None:
    for path in (tmp_path / "nowhere.pub", key, save(rsa.generate_private_key(65537, 2048), tmp_path / "rsa.pem")):
        with pytest.raises(KeyUnusable, match=rf"^{path.with_suffix(path.suffix)} is no public key"):
            require_signature(path)
    with pytest.raises(KeyUnusable, match=r"is no public key"):
        require_signature(tmp_path / "rsa.pub")


async def test_the_service_loads_what_is_signed_and_nothing_else(tmp_path: Path, key: Path) -> None:
    root = tmp_path / "models"
    signed(publish(root), key)
    publish(root, name="unsigned")
    settings = Settings(models_dir=root, require_signature=key.with_suffix(".pub"), poll_seconds=3600)
    repository = create_app(settings, open_runtime=lambda _: FakeRuntime(run)).state.repository
    await repository.refresh()
    assert [name for name, _ in repository.loaded] == ["tiny"]
    assert {name: refusal.reason for (name, _), refusal in repository.refused.items()} == {
        "unsigned": "signature-missing"
    }
    signed(root / "unsigned" / "1", key)
    await repository.refresh()
    assert [name for name, _ in repository.loaded] == ["tiny", "unsigned"]
    await repository.close()


def diabolo(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_commands_sign_and_verify(folder: Path, key: Path) -> None:
    public = key.with_suffix(".pub")
    assert diabolo("verify", "--no-replay", "--require-signature", public, folder) == (
        1,
        "tiny/1: signature-missing: the bundle is not signed: it has no model.sig\n",
    )
    digest = read_bundle(folder).digest[:12]
    assert diabolo("sign", "--key", key, folder) == (0, f"tiny/1: signed, digest {digest}\n")
    assert diabolo("verify", "--no-replay", "--require-signature", public, folder) == (
        0,
        f"tiny/1: sound, signed, digest {digest}\n",
    )
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    assert diabolo("verify", "--no-replay", "--require-signature", key, folder)[0] == 1


def administered(root: Path, *arguments: object, **options: object) -> tuple[int, str]:
    named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    return diabolo("models", *arguments, "--models-dir", root, "--state-dir", root.parent, *named)


@pytest.mark.parametrize("arguments", [("pin", "tiny", 1), ("load", "tiny")], ids=["pin", "load"])
def test_the_command_does_not_want_what_the_service_would_refuse(
    folder: Path, key: Path, arguments: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "runtime_opener", lambda *_, **__: lambda _: FakeRuntime(run))
    root, public = folder.parents[1], key.with_suffix(".pub")
    reason = "tiny cannot be served; version 1: signature-missing: the bundle is not signed: it has no model.sig"
    refused = (1, f"diabolo models {arguments[0]}: {reason}\n")
    assert administered(root, *arguments, require_signature=public) == refused
    monkeypatch.setenv("DIABOLO_REQUIRE_SIGNATURE", str(public))
    assert administered(root, *arguments) == refused
    assert not (root.parent / STATE_FILE).exists()
    monkeypatch.setenv("DIABOLO_REQUIRE_SIGNATURE", str(key))
    code, said = administered(root, *arguments)
    assert code == 1
    assert said.startswith(f"diabolo models {arguments[0]}: {key} is no public key of an elliptic curve")
    signed(folder, key)
    assert administered(root, *arguments, require_signature=public)[0] == 0


async def test_a_version_without_its_signature_is_not_pinned_over_http_and_the_other_answers_on(
    tmp_path: Path, key: Path
) -> None:
    root, state = tmp_path / "models", tmp_path / "state"
    state.mkdir()
    publish(root, version=1)
    signed(publish(root, version=2), key)
    admin = write_keys(tmp_path / "keys.json")
    public = key.with_suffix(".pub")
    async with serving(root, require_signature=public, state_dir=state, api_keys_file=admin) as served:
        fields = {"X-API-Key": KEY}
        body = {"parameters": {"version": "1"}}
        refused = await served.client.post("/v2/repository/models/tiny/load", json=body, headers=fields)
        assert refused.status_code == 409
        assert "version 1: signature-missing: the bundle is not signed" in refused.json()["error"]
        assert not (state / STATE_FILE).exists()
        answer = await served.get("/v1/models/tiny", headers=fields)
        assert answer.json()["version"] == 2


def test_a_key_with_a_password_signs(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = save(ec.generate_private_key(ec.SECP256R1()), tmp_path / "locked.pem", password="secret")
    code, said = diabolo("sign", "--key", key, folder)
    assert code == 1
    assert "is no private key of an elliptic curve in PEM" in said
    monkeypatch.setenv("DIABOLO_KEY_PASSWORD", "secret")
    assert diabolo("sign", "--key", key, folder)[0] == 0
    assert read(folder, key)


def test_what_is_not_sound_is_not_signed(folder: Path, key: Path) -> None:
    (folder / "model.pt").write_bytes(b"another  ")
    code, said = diabolo("sign", "--key", key, folder)
    assert code == 1
    assert said.startswith("tiny/1 is not signed: hash-mismatch: ")
    assert not (folder / "model.sig").exists()


def test_an_extra_that_is_missing_is_named() -> None:
    assert EXTRAS["model_signing"] == "signing"
