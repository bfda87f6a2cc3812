"""What Azure/kubernetes-kms wrote under one version of the key is read, and nothing else is.

The values are made as its public source does: by the SDK that it had until 2025 (`old`), and by the newer one (`new`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import build
from fake_azure import OAEP, PADDINGS, AzureSandbox, FakeAzure
from keystead_azure import KeyVaultProvider, ManagedHsmProvider
from keystead_azure.akv import ABOUT_THE_CALL, ALGORITHM, VERSION

from keystead.provider import ConfigError, Foreign, InvalidCiphertext, KeyDisabled, WrapContext

SEED = bytes(range(32))
CONTEXT = WrapContext(bytes(range(32)), "lab")
Form = Literal["old", "new", "v1 old", "v1 new"]


def soon() -> float:
    return time.monotonic() + 20


def text_of(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def key_id(version: str, vault: str = "Lab", key: str = "kek") -> str:
    return hashlib.sha256(f"https://{vault}.vault.azure.net/keys/{key}/{version}".encode()).hexdigest()


def written(azure: FakeAzure, version: str, form: Form, plaintext: bytes = SEED) -> Foreign:
    """What is stored of one Encrypt of that plugin."""
    public = azure.keys["kek"].versions[version].secret.public_key()
    if form == "v1 old":
        return Foreign("v1beta1", text_of(public.encrypt(plaintext, PADDINGS["RSA1_5"])))
    if form == "v1 new":
        return Foreign("v1beta1", public.encrypt(text_of(plaintext), PADDINGS["RSA1_5"]))
    annotations = {ALGORITHM: b"RSA-OAEP-256", VERSION: b"1"}
    if form == "old":
        annotations |= dict.fromkeys(sorted(ABOUT_THE_CALL), b"as the vault's headers had it")
        return Foreign("v2", text_of(public.encrypt(plaintext, OAEP)), key_id(version), tuple(annotations.items()))
    return Foreign("v2", public.encrypt(text_of(plaintext), OAEP), key_id(version), tuple(annotations.items()))


class Lab:
    """A fake, the version that the plugin had, and a provider that reads for it."""

    def __init__(self, azure: FakeAzure, sandbox: AzureSandbox) -> None:
        self.azure = azure
        self.old = azure.keys["kek"].current
        compat = {"reader": "kubernetes-kms", "keyVersion": self.old}
        self.provider: Any = build(azure, sandbox, compat=compat)
        assert isinstance(self.provider, KeyVaultProvider)
        self.provider.open(soon())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with FakeAzure("RSA").serve() as azure:
        yield Lab(azure, AzureSandbox(azure, tmp_path / "secret"))


@pytest.mark.parametrize("form", ["old", "new", "v1 old", "v1 new"])
def test_what_the_plugin_wrote_is_read_also_after_a_rotation(lab: Lab, form: Form) -> None:
    stored = written(lab.azure, lab.old, form)
    lab.azure.keys["kek"].add(int(time.time()))
    assert lab.provider.reads == "kubernetes-kms"
    assert lab.provider.recognises(stored)
    assert lab.provider.read(stored, soon()) == SEED
    assert f"/{lab.old}/decrypt" in lab.azure.seen[-1], "the version that was configured"


def test_off_unless_it_is_configured(tmp_path: Path) -> None:
    with FakeAzure("RSA").serve() as azure:
        provider = build(azure, AzureSandbox(azure, tmp_path / "secret"))
        assert provider.reads is None
        assert not provider.recognises(written(azure, azure.keys["kek"].current, "old"))
    assert ManagedHsmProvider.reads is None


def test_the_version_that_is_read_never_wraps_so_that_no_local_kek_can_come_back_as_a_seed(lab: Lab) -> None:
    for asked in (None, lab.old):
        with pytest.raises(ConfigError, match="make a new version of the key"):
            lab.provider.wrap(SEED, CONTEXT, asked, soon())
    new = lab.azure.keys["kek"].add(int(time.time()))
    wrapped = lab.provider.wrap(SEED, CONTEXT, None, soon())
    assert new in wrapped.version
    assert lab.provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == SEED
    like = written(lab.azure, lab.old, "old")
    offered = Foreign("v2", text_of(wrapped.blob[:256]), like.key_id, like.annotations)
    assert lab.provider.recognises(offered)
    with pytest.raises(InvalidCiphertext):
        lab.provider.read(offered, soon())


def test_a_disabled_version_is_named(lab: Lab) -> None:
    stored = written(lab.azure, lab.old, "new")
    lab.azure.keys["kek"].versions[lab.old].enabled = False
    with pytest.raises(KeyDisabled):
        lab.provider.read(stored, soon())


def test_what_is_encrypted_in_the_newer_form_must_be_text(lab: Lab) -> None:
    like = written(lab.azure, lab.old, "new")
    public = lab.azure.keys["kek"].versions[lab.old].secret.public_key()
    offered = Foreign("v2", public.encrypt(SEED, OAEP), like.key_id, like.annotations)
    with pytest.raises(InvalidCiphertext, match="not the text"):
        lab.provider.read(offered, soon())


def test_what_has_another_form_is_not_recognised(lab: Lab) -> None:
    good = written(lab.azure, lab.old, "old")
    others = dict(good.annotations)
    strange = [
        Foreign("v2", good.ciphertext, key_id("0" * 32), good.annotations),
        Foreign("v2", good.ciphertext, key_id(lab.old, vault="lab2"), good.annotations),
        Foreign("v2", good.ciphertext, "", good.annotations),
        Foreign("v2", good.ciphertext, good.key_id),
        Foreign("v2", good.ciphertext, good.key_id, tuple((others | {ALGORITHM: b"RSA1_5"}).items())),
        Foreign("v2", good.ciphertext, good.key_id, tuple((others | {VERSION: b"2"}).items())),
        Foreign("v2", good.ciphertext, good.key_id, (*good.annotations, ("more.azure.akv.io", b""))),
        Foreign("v2", good.ciphertext, good.key_id, (*good.annotations, good.annotations[0])),
        Foreign("v2", good.ciphertext[:-1] + b"=", good.key_id, good.annotations),
        Foreign("v2", good.ciphertext[:-2], good.key_id, good.annotations),
        Foreign("v2", os.urandom(255), good.key_id, tuple(list(others.items())[:2])),
        Foreign("v1beta1", os.urandom(257)),
        Foreign("v1beta1", b""),
    ]
    assert lab.provider.recognises(good)
    assert not [one for one in strange if lab.provider.recognises(one)]
