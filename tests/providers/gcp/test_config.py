"""The configuration of the provider: what is refused, and with which reason."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from pydantic import ValidationError

from keystead import registry
from keystead.provider import ConfigError, Provider
from keystead.providers._gcp.config import Compat, GcpKmsConfig
from keystead.providers.gcp_kms import GcpKmsProvider

KEY = "projects/lab-1/locations/europe-west1/keyRings/ring/cryptoKeys/k8s"


def parsed(**fields: Any) -> GcpKmsConfig:
    return GcpKmsConfig.model_validate({"name": "k", "provider": "gcp-kms", "keyName": KEY, **fields})


KEY_FORM = "should be projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a version": ({"keyName": KEY + "/cryptoKeyVersions/1"}, "names a version of a key: leave out /cryptoKeyVersions"),
    "no version after its word": ({"keyName": KEY + "/cryptoKeyVersions"}, "names a version of a key"),
    "a key ring": ({"keyName": KEY.rpartition("/cryptoKeys")[0]}, KEY_FORM),
    "a key by its short name": ({"keyName": "k8s"}, KEY_FORM),
    "a leading slash": ({"keyName": "/" + KEY}, KEY_FORM),
    "a trailing slash": ({"keyName": KEY + "/"}, KEY_FORM),
    "a newline": ({"keyName": KEY + "\n"}, KEY_FORM),
    "a URL": ({"keyName": "https://cloudkms.googleapis.com/v1/" + KEY}, KEY_FORM),
    "the name of the audit log": ({"keyName": "//cloudkms.googleapis.com/" + KEY}, KEY_FORM),
    "a space": ({"keyName": KEY.replace("ring", "r ing")}, KEY_FORM),
    "two dots": ({"keyName": KEY.replace("k8s", "..")}, KEY_FORM),
    "no key name": ({"keyName": ""}, KEY_FORM),
    "a relative file": ({"credentialsFile": "sa.json"}, "should be an absolute path"),
    "a file with a null byte": ({"caFile": "/a\0"}, "should be an absolute path"),
    "another transport": ({"transport": "http"}, "'grpc' or 'rest'"),
    "an endpoint with a scheme": ({"endpoint": "https://kms.example"}, "without https://"),
    "an endpoint with a path": ({"endpoint": "kms.example/v1"}, "should be host or host:port"),
    "an endpoint with port 0": ({"endpoint": "kms.example:0"}, "not between 1 and 65535"),
    "an endpoint with a large port": ({"endpoint": "kms.example:65536"}, "not between 1 and 65535"),
    "an endpoint that gRPC would resolve otherwise": ({"endpoint": "unix:/run/kms.sock"}, "should be host"),
    "a proxy with a password": ({"proxy": "http://u:p@proxy:3128"}, "without user, password and path"),
    "a proxy with TLS": ({"proxy": "https://proxy:3128"}, "should be http://host:port"),
    "a typing error": ({"keyname": KEY}, "Extra inputs are not permitted"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_configuration_is_refused(case: str) -> None:
    changes, text = REFUSED[case]
    with pytest.raises(ValidationError, match=text):
        parsed(**changes)


@pytest.mark.parametrize("project", ["lab-1", "123456789012", "example.com:lab-1"])
def test_a_project_has_an_id_a_number_or_a_domain(project: str) -> None:
    name = KEY.replace("lab-1", project)
    assert parsed(keyName=name).keyName == name


def test_an_address_has_one_spelling() -> None:
    assert parsed().endpoint == "cloudkms.googleapis.com:443"
    assert parsed(endpoint="CloudKMS.Europe-West1.rep.googleapis.com").endpoint == (
        "cloudkms.europe-west1.rep.googleapis.com:443"
    )
    assert parsed(endpoint="10.0.0.1:0443").endpoint == "10.0.0.1:443"
    assert parsed(proxy="http://Proxy:3128/").proxy == "http://proxy:3128"
    assert parsed(proxy="http://proxy").proxy == "http://proxy:80"


def test_each_field_is_described() -> None:
    fields = {**GcpKmsConfig.model_fields, **Compat.model_fields}
    assert {"keyName", "credentialsFile", "transport", "reader"} <= fields.keys()
    assert [name for name, field in fields.items() if not field.description] == ["provider"]


def test_the_sdk_is_not_imported_before_a_key_is_opened() -> None:
    code = (
        "import sys, keystead.providers.gcp_kms\n"
        "assert not {'grpc', 'google.auth', 'google.cloud', 'google_crc32c', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_the_sdk_opening_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    monkeypatch.delitem(sys.modules, "keystead.providers._gcp.service", raising=False)
    with pytest.raises(ConfigError, match=r"is not installed: install keystead\[gcp\]"):
        GcpKmsProvider(parsed()).open(time.monotonic() + 1)


def test_the_provider_is_found_by_its_entry_point_and_follows_the_interface() -> None:
    found: type[Provider[Any]] = registry.provider_class("gcp-kms")
    assert found is GcpKmsProvider
