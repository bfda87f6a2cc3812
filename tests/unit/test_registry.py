"""Providers are found through real metadata of distributions that each test installs into its own directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path

import pytest

from keystead import registry
from keystead.errors import ConfigError
from keystead.registry import names, provider_class

GOOD = """
from keystead.provider import Capabilities, Provider, ProviderConfig, Wrapped

class Config(ProviderConfig):
    key: str

class Acme(Provider[Config]):
    api = 1
    config_type = Config
    capabilities = Capabilities(binds_context=True, has_versions=False, authenticated_wrap=True, max_blob=100)

    def open(self, deadline): return self.config.key
    def current_version(self, deadline): return ""
    def wrap(self, kek, context, version, deadline): return Wrapped(kek, "")
    def unwrap(self, blob, context, version, deadline): return blob
    def close(self): pass
"""

Install = Callable[..., None]
Entries = Callable[[], list[EntryPoint]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Install a distribution that offers one provider, whose module `toy_NAME` has the given source."""

    def install(
        name: str = "acmekms",
        source: str = GOOD,
        *,
        dist: str = "keystead-acme",
        version: str = "0.1.0",
        target: str = "toy_acme:Acme",
        requires: tuple[str, ...] = (),
    ) -> None:
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(f"[keystead.providers]\n{name} = {target}\n[console_scripts]\nx = y:z\n")
        (site / f"{target.partition(':')[0]}.py").write_text(source)

    return install


@pytest.fixture
def entries(site: Path) -> Entries:
    def entries() -> list[EntryPoint]:
        found = [entry for dist in distributions(path=[str(site)]) for entry in dist.entry_points]
        return [entry for entry in found if entry.group == registry.GROUP]

    return entries


def refused(entries: list[EntryPoint], name: str = "acmekms") -> str:
    with pytest.raises(ConfigError) as caught:
        provider_class(name, entries)
    return str(caught.value)


def test_an_installed_provider_is_found_by_name(install: Install, entries: Entries) -> None:
    install()
    found = provider_class("acmekms", entries())
    assert (found.__module__, found.__name__) == ("toy_acme", "Acme")


def test_installed_providers_are_listed_with_their_distribution(install: Install, entries: Entries) -> None:
    install()
    install("zeta", dist="keystead-zeta", version="2.3", target="toy_zeta:Z")
    assert [(one.name, one.distribution, one.version, one.target) for one in names(entries())] == [
        ("acmekms", "keystead-acme", "0.1.0", "toy_acme:Acme"),
        ("zeta", "keystead-zeta", "2.3", "toy_zeta:Z"),
    ]
    assert str(names(entries())[0]) == "acmekms (keystead-acme 0.1.0)"


def test_only_the_provider_that_is_asked_for_is_imported(install: Install, entries: Entries) -> None:
    install()
    install("zeta", "raise SystemError('imported')", dist="keystead-zeta", target="toy_zeta:Z")
    names(entries())
    assert "toy_acme" not in sys.modules
    provider_class("acmekms", entries())
    assert "toy_acme" in sys.modules
    assert "toy_zeta" not in sys.modules


def test_without_entry_points_given_those_of_the_environment_are_used(install: Install) -> None:
    install("toy-of-the-environment")
    assert "toy-of-the-environment" in [one.name for one in names()]
    assert provider_class("toy-of-the-environment").__name__ == "Acme"


def test_an_unknown_name_lists_what_is_installed(install: Install, entries: Entries) -> None:
    install()
    install("zeta", dist="keystead-zeta", target="toy_zeta:Z")
    assert refused(entries(), "acme-kms") == (
        "no provider 'acme-kms' is installed (did you mean 'acmekms'?); installed: acmekms, zeta"
    )
    assert refused(entries(), "qqq") == (
        "no provider 'qqq' is installed; installed: acmekms, zeta; "
        "install the package that offers it, perhaps keystead-qqq"
    )
    assert refused([], "acmekms").startswith("no provider 'acmekms' is installed; no provider is installed; install")


def test_a_package_may_be_named_for_the_vendor_of_several_providers() -> None:
    assert refused([], "acme-cloud-hsm").endswith(
        "install the package that offers it, perhaps keystead-acme-cloud-hsm or keystead-acme"
    )


@pytest.mark.parametrize("name", [one.name for one in names() if one.distribution == "keystead"])
def test_a_provider_of_ours_whose_entry_point_is_gone_is_installed_with_keystead(name: str) -> None:
    others = [entry for entry in entry_points(group=registry.GROUP) if entry.name[0] != name[0]]
    assert refused(others, name).endswith(
        "it is a part of keystead, but the metadata of the installation do not name it: install keystead again"
    )
    assert "part of keystead" not in refused([], f"-{name}")


@pytest.mark.parametrize("name", ["", "Acme", "acme_kms", "acme.kms", "a/b", "x" * 33, "acme\n"])
def test_a_name_that_no_record_could_carry_is_refused(name: str) -> None:
    assert refused([], name).endswith("cannot be a provider's name: it has 1 to 32 characters of a-z, 0-9 and -")


def test_two_distributions_with_the_same_name_are_refused(install: Install, entries: Entries) -> None:
    install()
    install(dist="evil-acme", version="9", target="toy_evil:Acme")
    assert refused(entries()) == (
        "provider 'acmekms' is offered by evil-acme 9 and keystead-acme 0.1.0; uninstall all but one"
    )
    assert [name for name in sys.modules if name.startswith("toy_")] == []


def test_a_missing_sdk_names_the_extra_that_brings_it(install: Install, entries: Entries) -> None:
    install(
        source="import toy_sdk.client",
        requires=("pydantic>=2", 'Toy_SDK[grpc]>=1.2; python_version >= "3.11" and extra == "acme"'),
    )
    assert refused(entries()) == (
        "provider acmekms (keystead-acme 0.1.0): toy_acme:Acme does not import: No module named 'toy_sdk'; "
        "install keystead-acme[acme]"
    )


def test_a_missing_module_that_no_extra_names_still_says_where_to_look(install: Install, entries: Entries) -> None:
    install(source="import toy_sdk", requires=('other; extra == "acme"', "toy-sdk"))
    assert refused(entries()) == (
        "provider acmekms (keystead-acme 0.1.0): toy_acme:Acme does not import: No module named 'toy_sdk'; "
        "install what keystead-acme needs for it, usually an extra of keystead-acme"
    )


def test_whatever_a_module_raises_while_it_is_imported_becomes_one_message(install: Install, entries: Entries) -> None:
    install(source="raise RuntimeError('no clock')")
    assert refused(entries()) == (
        "provider acmekms (keystead-acme 0.1.0): toy_acme:Acme does not import: RuntimeError: no clock"
    )


def test_a_target_that_the_module_does_not_have_is_reported(install: Install, entries: Entries) -> None:
    install(target="toy_acme:Missing")
    assert "does not import: AttributeError: module 'toy_acme' has no attribute 'Missing'" in refused(entries())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Provider[Config]", "dict", "is not a subclass of keystead.provider.Provider"),
        ("api = 1", "", "does not say which api it speaks"),
        ("api = 1", "api = True", "does not say which api it speaks"),
        ("api = 1", "api = '1'", "does not say which api it speaks"),
        ("config_type = Config", "", "has no config_type that is a ProviderConfig"),
        ("config_type = Config", "config_type = Config(name='a', provider='a', key='b')", "has no config_type"),
        ("config_type = Config", "config_type = dict", "has no config_type that is a ProviderConfig"),
        ("    capabilities = ", "    unknown = ", "does not declare its capabilities"),
        ("    def close(self): pass", "", "does not implement close"),
        ("    def wrap", "    def wrapp", "does not implement wrap"),
    ],
)
def test_a_class_that_does_not_follow_the_interface_is_refused(
    old: str, new: str, said: str, install: Install, entries: Entries
) -> None:
    assert GOOD.count(old) == 1
    install(source=GOOD.replace(old, new))
    assert f"provider acmekms (keystead-acme 0.1.0): toy_acme:Acme {said}" in refused(entries())


def test_a_function_is_not_a_provider(install: Install, entries: Entries) -> None:
    install(source="def Acme(config): ...")
    assert "toy_acme:Acme is not a subclass of keystead.provider.Provider" in refused(entries())


def test_a_newer_interface_asks_for_a_newer_keystead(
    install: Install, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "__version__", "0.1.0")
    install(source=GOOD.replace("api = 1", "api = 3"))
    assert refused(entries()) == (
        "provider acmekms (keystead-acme 0.1.0) speaks api 3; this Keystead 0.1.0 speaks 1; "
        "upgrade keystead or pin an older keystead-acme"
    )


def test_the_interface_before_this_one_is_supported_and_older_ones_are_not(
    install: Install, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SUPPORTED_APIS", range(1, 3))
    install()
    assert provider_class("acmekms", entries()).api == 1
    monkeypatch.setattr(registry, "SUPPORTED_APIS", range(2, 4))
    monkeypatch.setattr(registry, "__version__", "3.0")
    assert refused(entries()) == (
        "provider acmekms (keystead-acme 0.1.0) speaks api 1; this Keystead 3.0 speaks 2–3; "
        "upgrade keystead-acme or pin an older keystead"
    )


def test_this_release_speaks_the_first_interface_only() -> None:
    assert list(registry.SUPPORTED_APIS) == [1]
