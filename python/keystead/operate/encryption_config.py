"""What kube-apiserver's EncryptionConfiguration says about each resource, as far as an inventory has to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystead.config import ConfigInvalid, Problem, read_file
from keystead.config.document import read

_STATIC = ("aescbc", "aesgcm", "secretbox")


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider of a list; its kind is spelled as in `Holder`."""

    kind: str
    name: str
    """The name of a KMS provider, or of one key of the API server's own; empty for `identity`."""


@dataclass(frozen=True, slots=True)
class EncryptionConfig:
    """Blocks of resources and their providers, of which the first that names a resource counts."""

    blocks: tuple[tuple[tuple[str, ...], tuple[Provider, ...]], ...]

    def providers(self, resource: str) -> tuple[Provider, ...]:
        """Return the providers of a resource, the first of which writes; `identity` alone if no block names it."""
        for names, providers in self.blocks:
            if any(_covers(name, resource) for name in names):
                return providers
        return (Provider("plaintext", ""),)


def load(path: Path) -> EncryptionConfig:
    """Read a file. Raises `ConfigInvalid`."""
    tree: Any = read(read_file(path), str(path)).tree
    try:
        if tree["kind"] != "EncryptionConfiguration":
            raise ConfigInvalid([Problem("is not an EncryptionConfiguration", source=str(path))])
        blocks = tuple(
            (
                tuple(str(name) for name in block["resources"]),
                tuple(provider for entry in block["providers"] for provider in _providers(entry)),
            )
            for block in tree["resources"]
        )
    except (KeyError, TypeError, AttributeError) as exc:
        reason = f"{type(exc).__name__}: {exc}"
        raise ConfigInvalid(
            [Problem(f"is not an EncryptionConfiguration that can be read: {reason}", source=str(path))]
        ) from exc
    return EncryptionConfig(blocks)


def _providers(entry: dict[str, Any]) -> list[Provider]:
    ((kind, content),) = entry.items()
    if kind == "identity":
        return [Provider("plaintext", "")]
    if kind == "kms":
        return [Provider(f"kms:{content.get('apiVersion', 'v1')}", str(content["name"]))]
    if kind in _STATIC:
        return [Provider(kind, str(key["name"])) for key in content["keys"]]
    raise KeyError(kind)


def _covers(name: str, resource: str) -> bool:
    if name == "*.*" or name == resource:
        return True
    _, dot, group = resource.partition(".")
    return name == (f"*.{group}" if dot else "*.")
