"""Two providers that exist only here, and the two questions that most tests ask of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from keystead.config import ConfigInvalid, Configuration, load_text
from keystead.errors import ConfigError
from keystead.provider import Capabilities, Provider, ProviderConfig, WrapContext, Wrapped

CAPABILITIES = Capabilities(binds_context=True, has_versions=True, authenticated_wrap=True, max_blob=72)

MINIMAL = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
keys:
- {name: lab, provider: local, keyFile: /etc/keystead/lab.key}
endpoints:
- name: main
  socket: unix:///run/keystead/kms.sock
  epoch: 1
  members:
  - {key: lab, stage: active}
"""


class Toy(Provider[ProviderConfig]):
    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = ProviderConfig
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def open(self, deadline: float) -> str:
        return self.config.name

    def current_version(self, deadline: float) -> str | None:
        return ""

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:
        return Wrapped(kek, "")

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytes:
        return blob

    def close(self) -> None:
        pass


class LocalConfig(ProviderConfig):
    """A file."""

    provider: Literal["local"]
    keyFile: Path = Field(description="The file.")  # noqa: N815  # a field's name in YAML


class Local(Toy):
    config_type: ClassVar[type[ProviderConfig]] = LocalConfig


class TokenAuth(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["token"]
    tokenFile: Path  # noqa: N815


class CertAuth(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["cert"]
    certFile: Path  # noqa: N815


class AcmeConfig(ProviderConfig):
    """A remote KMS with a nested, discriminated part."""

    provider: Literal["acmekms"]
    address: str
    retries: int = 3
    auth: TokenAuth | CertAuth = Field(discriminator="method")


class Acme(Toy):
    config_type: ClassVar[type[ProviderConfig]] = AcmeConfig
    capabilities: ClassVar[Capabilities] = replace(CAPABILITIES, has_versions=False)


PROVIDERS: dict[str, type[Provider[Any]]] = {"local": Local, "acmekms": Acme}


def find_provider(name: str) -> type[Provider[Any]]:
    if name not in PROVIDERS:
        raise ConfigError(f"no provider {name!r} is installed")
    return PROVIDERS[name]


Accept = Callable[[str], Configuration]
Refuse = Callable[[str], list[str]]


@pytest.fixture
def minimal() -> str:
    """The smallest configuration, line by line as the tests edit it."""
    return MINIMAL


@pytest.fixture
def lookup() -> Callable[[str], type[Provider[Any]]]:
    return find_provider


@pytest.fixture
def providers() -> dict[str, type[Provider[Any]]]:
    return PROVIDERS


@pytest.fixture
def accept() -> Accept:
    """Build a configuration from YAML."""
    return lambda text: load_text(text, "config.yaml", lookup=find_provider)


@pytest.fixture
def refuse() -> Refuse:
    """Return the problems of YAML that must not be accepted, as lines without the name of the file."""

    def problems(text: str) -> list[str]:
        with pytest.raises(ConfigInvalid) as caught:
            load_text(text, "config.yaml", lookup=find_provider)
        return [str(problem).removeprefix("config.yaml:") for problem in caught.value.problems]

    return problems
