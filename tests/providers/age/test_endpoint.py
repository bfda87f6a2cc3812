"""A whole endpoint with a real recovery key: what it writes opens by hand after every other key is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from keystead import errors
from keystead._core import ROLE_RECOVERY, KekStore, Record
from keystead.config import ConfigInvalid, Configuration, load_text
from keystead.host.plugin import Plugin
from support.fakes import RecordingObserver, until
from support.messages import SEED, decrypt, encrypt


@pytest.fixture
def pyrage() -> Any:
    return pytest.importorskip(
        "pyrage", reason="NOT TESTED: no pyrage; pip install --require-hashes -r requirements/backends.txt"
    )


def configuration(directory: Path, recipient: str, role: str = "recovery") -> Configuration:
    key_file = directory / "lab.key"
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_bytes(os.urandom(32))
    members = [{"key": "lab", "stage": "active"}, {"key": "safe", "stage": "active", "role": role}]
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": "prod",
        "stateDir": str(directory / "state"),
        "keys": [
            {"name": "lab", "provider": "local", "keyFile": str(key_file)},
            {"name": "safe", "provider": "age-x25519", "recipient": recipient},
        ],
        "endpoints": [{"name": "main", "socket": f"unix://{directory}/s.sock", "epoch": 1, "members": members}],
    }
    return load_text(json.dumps(document), "test")


def test_what_was_written_opens_by_hand_once_the_online_key_is_destroyed(pyrage: Any, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    config = configuration(tmp_path, str(identity.to_public()))
    plugin = Plugin(config, RecordingObserver())
    plugin.start()
    endpoint = plugin.endpoints["main"]
    until(lambda: endpoint.snapshot.healthz == "ok" and all(key.ref for key in endpoint.report().keys))
    written = encrypt(endpoint)
    report = {key.name: (key.role, key.up, key.error) for key in endpoint.report().keys}
    assert report == {"lab": ("online", True, None), "safe": ("recovery", True, None)}
    plugin.stop()

    (tmp_path / "lab.key").unlink()
    record = Record.parse(written.record)
    (wrap,) = [wrap for wrap in record.wraps if wrap.role == ROLE_RECOVERY]
    store = KekStore(["prod"])
    store.admit(record, pyrage.decrypt(wrap.blob, [identity]))
    assert SEED in store.decrypt_v2(written.request)  # type: ignore[operator]  # the answer, for the KEK is there

    again = Plugin(config, RecordingObserver())
    again.start()
    with pytest.raises(errors.KeysteadError):
        decrypt(again.endpoints["main"], written)
    assert again.endpoints["main"].report().state == "init", "it does not try the recovery key"
    again.stop()


def test_as_an_online_key_it_is_refused_with_the_reason(pyrage: Any, tmp_path: Path) -> None:
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    with pytest.raises(ConfigInvalid, match="should have the role recovery: age-x25519 wraps with a public key"):
        configuration(tmp_path, recipient, role="online")
