"""Providers by name, through entry points of the group `keystead.providers`.

Only the provider that is asked for is imported: this process stands in the control plane, and code that the
configuration does not name has no business in it.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

from keystead import __version__
from keystead.errors import ConfigError
from keystead.provider import API_VERSION, Capabilities, Provider, ProviderConfig
from keystead.suggest import did_you_mean

GROUP = "keystead.providers"

SUPPORTED_APIS = range(max(1, API_VERSION - 1), API_VERSION + 1)
"""This version of the interface and the one before it, so that a provider need not be released on the same day."""

NAME = re.compile(r"[a-z0-9-]{1,32}")
"""A provider's name is the scheme inside records, whose format fixes these characters."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A provider that is installed. Nothing of it has been imported."""

    name: str
    distribution: str
    version: str
    target: str

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def names(found: Iterable[EntryPoint] | None = None) -> list[Installed]:
    """List the installed providers by name, without importing them. `found` replaces the environment's."""
    return sorted((_describe(entry) for entry in _entries(found)), key=lambda one: (one.name, one.distribution))


def provider_class(name: str, found: Iterable[EntryPoint] | None = None) -> type[Provider[Any]]:
    """Import the provider `name` and return its class. `found` replaces the environment's entry points.

    Raises `ConfigError` for a name that is not installed or is offered twice, for a module that does not import,
    and for a class that does not follow the interface.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name[:40]!r} cannot be a provider's name: it has 1 to 32 characters of a-z, 0-9 and -")
    available = _entries(found)
    offers = {(entry.value, _describe(entry).distribution): entry for entry in available if entry.name == name}
    if not offers:
        known = sorted({entry.name for entry in available})
        listing = f"installed: {', '.join(known)}" if known else "no provider is installed"
        close = did_you_mean(name, known)
        raise ConfigError(f"no provider {name!r} is installed{close}; {listing}{'' if close else _where(name)}")
    if len(offers) > 1:
        who = " and ".join(sorted(f"{one.distribution} {one.version}" for one in map(_describe, offers.values())))
        raise ConfigError(f"provider {name!r} is offered by {who}; uninstall all but one")
    (entry,) = offers.values()
    loaded = _load(entry)
    return check_class(loaded, _describe(entry))


def check_class(loaded: Any, who: Installed) -> type[Provider[Any]]:
    """Return `loaded` if it is a provider's class that this Keystead can use. Raises `ConfigError`."""
    _check(loaded, who)
    return loaded  # type: ignore[no-any-return]  # _check has looked at it


def _where(name: str) -> str:
    """Say what to install for a provider that is not. Packages are named for the provider, or for its vendor."""
    module = name.replace("-", "_")
    if not module.startswith("_") and importlib.util.find_spec(f"keystead.providers.{module}") is not None:
        return "; it is a part of keystead, but the metadata of the installation do not name it: install keystead again"
    vendor = name.partition("-")[0]
    return f"; install the package that offers it, perhaps keystead-{name}" + (
        f" or keystead-{vendor}" if vendor not in ("", name) else ""
    )


def _entries(found: Iterable[EntryPoint] | None) -> list[EntryPoint]:
    return list(entry_points(group=GROUP) if found is None else found)


def _describe(entry: EntryPoint) -> Installed:
    if entry.dist is None:
        return Installed(entry.name, "unknown distribution", "without version", entry.value)
    return Installed(entry.name, entry.dist.name, entry.dist.version, entry.value)


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"provider {_describe(entry)}: {entry.value} does not import: {exc}{_remedy(entry.dist, exc.name)}"
        ) from exc
    except Exception as exc:  # the module is a vendor's and may raise whatever it likes
        raise ConfigError(
            f"provider {_describe(entry)}: {entry.value} does not import: {type(exc).__name__}: {exc}"
        ) from exc


def _remedy(dist: Distribution | None, module: str | None) -> str:
    """Say which extra of the provider's distribution brings the missing module, as far as its metadata tell."""
    if dist is None or not module:
        return ""
    wanted = module.partition(".")[0].replace("_", "-").lower()
    for requirement in dist.requires or ():
        package = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", requirement)
        if package and extra and package[0].replace("_", "-").replace(".", "-").lower() == wanted:
            return f"; install {dist.name}[{extra[1]}]"
    return f"; install what {dist.name} needs for it, usually an extra of {dist.name}"


def _check(loaded: Any, who: Installed) -> None:
    if not (inspect.isclass(loaded) and issubclass(loaded, Provider)):
        raise ConfigError(f"provider {who}: {who.target} is not a subclass of keystead.provider.Provider")
    _check_api(getattr(loaded, "api", None), who)
    if not inspect.isclass(config := getattr(loaded, "config_type", None)) or not issubclass(config, ProviderConfig):
        raise ConfigError(f"provider {who}: {who.target} has no config_type that is a ProviderConfig")
    if not isinstance(getattr(loaded, "capabilities", None), Capabilities):
        raise ConfigError(f"provider {who}: {who.target} does not declare its capabilities")
    if missing := sorted(loaded.__abstractmethods__):
        raise ConfigError(f"provider {who}: {who.target} does not implement {', '.join(missing)}")


def _check_api(api: object, who: Installed) -> None:
    if type(api) is not int:
        raise ConfigError(f"provider {who}: {who.target} does not say which api it speaks")
    if api in SUPPORTED_APIS:
        return
    ours = "–".join(str(version) for version in sorted({SUPPORTED_APIS[0], SUPPORTED_APIS[-1]}))
    advice = (
        f"upgrade keystead or pin an older {who.distribution}"
        if api > SUPPORTED_APIS[-1]
        else f"upgrade {who.distribution} or pin an older keystead"
    )
    raise ConfigError(f"provider {who} speaks api {api}; this Keystead {__version__} speaks {ours}; {advice}")
