"""Keys and endpoints built from a configuration, and what a reload leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead import errors
from keystead.config import Configuration, load_text
from keystead.host import plugin as plugin_module
from keystead.host.guard import Guard
from keystead.host.plugin import Plugin
from keystead.host.prove import Unproven
from keystead.provider import Provider, ProviderConfig
from support.endpoints import Lines, events
from support.fakes import FakeProvider, RecordingObserver, until
from support.messages import SEED, decrypt, encrypt


class Shelf:
    """Remote keys by the name of their configuration, and the lookup that hands them out."""

    def __init__(self) -> None:
        self.made: list[FakeProvider] = []
        self.missing: set[str] = set()
        self.broken: set[str] = set()
        """Keys whose remote is away when they are made."""
        self.versions: dict[str, dict[str, bytes]] = {}

    def provider_class(self, name: str) -> type[Provider[Any]]:
        if name in self.missing:
            raise errors.ConfigError(f"no provider {name!r} is installed")
        shelf = self

        class Shelved(FakeProvider):
            notice = "this is a fake"

            def __init__(self, config: ProviderConfig) -> None:
                super().__init__(config.name)
                self.versions = shelf.versions.setdefault(config.name, self.versions)
                if config.name in shelf.broken:
                    self.fail(errors.Unavailable("away"))
                shelf.made.append(self)

        return Shelved

    @property
    def names(self) -> list[str]:
        return [provider.config.name for provider in self.made]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    shelf = Shelf()
    monkeypatch.setattr(plugin_module, "provider_class", shelf.provider_class)
    return shelf


@pytest.fixture
def plugins(shelf: Shelf) -> Iterator[list[Plugin]]:
    made: list[Plugin] = []
    yield made
    for plugin in made:
        plugin.stop()


def configuration(shelf: Shelf, state: Path, endpoints: dict[str, dict[str, str]], **changes: Any) -> Configuration:
    """Endpoints by name, each with its keys and their stages; every key has a provider of its own name."""
    keys = sorted({key for members in endpoints.values() for key in members})
    document = {
        "apiVersion": "config.keystead.dev/v1alpha1",
        "kind": "KeysteadConfiguration",
        "cluster": "test",
        "stateDir": str(state),
        "keys": [{"name": key, "provider": f"fake-{key}"} for key in keys],
        "endpoints": [
            {
                "name": name,
                "socket": f"unix://{state}/{name}.sock",
                "epoch": 1,
                "members": [{"key": key, "stage": stage} for key, stage in members.items()],
            }
            for name, members in endpoints.items()
        ],
    }
    return load_text(json.dumps(document | changes), "test", lookup=shelf.provider_class)


ONE = {"main": {"a": "active"}}


def guards_of(plugin: Plugin, endpoint: str) -> list[Guard]:
    found = plugin.endpoints[endpoint]
    return [member.guard for member in (found._caretaker._pending or found._caretaker._target).members.all]


def test_endpoints_serve_from_their_own_directories_and_share_a_key(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path, logged: Lines
) -> None:
    plugin = Plugin(configuration(shelf, tmp_path, ONE | {"second": {"a": "active"}}), RecordingObserver())
    plugins.append(plugin)
    plugin.start()
    until(lambda: all(endpoint.snapshot.healthz == "ok" for endpoint in plugin.endpoints.values()))
    assert shelf.names == ["a"]
    assert shelf.made[0].calls["open"] == 1
    assert (tmp_path / "main/current").exists()
    assert (tmp_path / "second/current").exists()
    assert decrypt(plugin.endpoints["second"], encrypt(plugin.endpoints["main"])) == SEED
    assert [line["msg"] for line in events(logged, "key.notice")] == ["this is a fake"]


def test_a_reload_of_the_same_configuration_disturbs_nothing(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path
) -> None:
    plugin = Plugin(configuration(shelf, tmp_path, ONE), RecordingObserver())
    plugins.append(plugin)
    before = guards_of(plugin, "main"), plugin.endpoints["main"]
    plugin.reload(configuration(shelf, tmp_path, ONE))
    assert (guards_of(plugin, "main"), plugin.endpoints["main"]) == before
    assert shelf.names == ["a"]


def test_a_reload_adds_and_removes_endpoints_while_others_go_on(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path
) -> None:
    plugin = Plugin(configuration(shelf, tmp_path, ONE | {"old": {"a": "active"}}), RecordingObserver())
    plugins.append(plugin)
    plugin.start()
    until(lambda: plugin.endpoints["main"].snapshot.healthz == "ok")
    main, old = plugin.endpoints["main"], plugin.endpoints["old"]
    plugin.reload(configuration(shelf, tmp_path, ONE | {"new": {"b": "active"}}))
    assert plugin.endpoints["main"] is main
    assert set(plugin.endpoints) == {"main", "new"}
    until(lambda: plugin.endpoints["new"].snapshot.healthz == "ok")
    assert not old._caretaker._thread.is_alive()
    assert decrypt(main, encrypt(main)) == SEED


def test_a_key_whose_configuration_changes_is_opened_anew_and_the_old_one_closed_when_its_calls_can_have_ended(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    real = plugin_module.threading.Timer  # type: ignore[attr-defined]

    def timer(delay: float, function: Any) -> Any:
        delays.append(delay)
        return real(0.0, function)

    monkeypatch.setattr(plugin_module.threading, "Timer", timer)  # type: ignore[attr-defined]
    plugin = Plugin(configuration(shelf, tmp_path, ONE), RecordingObserver())
    plugins.append(plugin)
    changed = configuration(shelf, tmp_path, ONE)
    other = changed.model_copy(update={"keys": (changed.keys[0].model_copy(update={"provider": "fake-other"}),)})
    plugin.reload(other)
    assert shelf.names == ["a", "a"]
    until(lambda: shelf.made[0].closed == 1)
    assert shelf.made[1].closed == 0
    assert delays == [other.unwrap_timeout + 1]
    assert guards_of(plugin, "main")[0].scheme == "fake-other"


def test_a_provider_that_cannot_be_loaded_leaves_everything_as_it_was(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path
) -> None:
    plugin = Plugin(configuration(shelf, tmp_path, ONE), RecordingObserver())
    plugins.append(plugin)
    before = guards_of(plugin, "main")
    wanted = configuration(shelf, tmp_path, {"main": {"a": "decrypt", "b": "active"}, "new": {"b": "active"}})
    shelf.missing.add("fake-b")
    with pytest.raises(errors.ConfigError, match="no provider 'fake-b' is installed"):
        plugin.reload(wanted)
    assert guards_of(plugin, "main") == before
    assert set(plugin.endpoints) == {"main"}


def test_only_new_keys_are_proven_and_those_of_a_refused_configuration_are_closed(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path, logged: Lines
) -> None:
    plugin = Plugin(configuration(shelf, tmp_path, ONE), RecordingObserver())
    plugins.append(plugin)
    before = guards_of(plugin, "main")
    wanted = configuration(shelf, tmp_path, {"main": {"a": "active", "b": "active", "c": "decrypt"}})
    shelf.broken.add("b")
    prepared = plugin.prepare(wanted)
    assert prepared.fresh == {"b", "c"}
    with pytest.raises(Unproven, match="key b: open: away"):
        plugin.prove(prepared)
    plugin.discard(prepared)
    assert {provider.config.name: provider.closed for provider in shelf.made} == {"a": 0, "b": 1, "c": 1}
    assert guards_of(plugin, "main") == before
    shelf.broken.clear()
    prepared = plugin.prepare(wanted)
    plugin.prove(prepared)
    plugin.commit(prepared)
    new = {provider.config.name: provider.calls for provider in shelf.made[3:]}
    assert (new["b"]["wrap"], new["c"]["open"], new["c"]["wrap"]) == (1, 1, 0)
    assert [line["key"] for line in events(logged, "key.notice")] == ["a", "b", "c"]
    # All is known now, so nothing is asked.
    asked = {name: sum(calls.values()) for name, calls in new.items()}
    for wanted in (configuration(shelf, tmp_path, ONE), configuration(shelf, tmp_path, {"main": {"b": "active"}})):
        plugin.prove(plugin.prepare(wanted))
    assert {name: sum(calls.values()) for name, calls in new.items()} == asked


def test_an_endpoint_that_a_reload_leaves_as_it_was_is_not_woken(
    shelf: Shelf, plugins: list[Plugin], tmp_path: Path
) -> None:
    both = ONE | {"second": {"a": "active"}}
    plugin = Plugin(configuration(shelf, tmp_path, both), RecordingObserver())
    plugins.append(plugin)
    woken: list[str] = []
    for name, endpoint in plugin.endpoints.items():
        endpoint.apply = lambda _target, name=name: woken.append(name)  # type: ignore[method-assign,misc]
    plugin.reload(configuration(shelf, tmp_path, both))
    assert woken == []
    plugin.reload(configuration(shelf, tmp_path, ONE | {"second": {"a": "active", "b": "decrypt"}}))
    assert woken == ["second"]


def test_stopping_closes_every_key(shelf: Shelf, tmp_path: Path) -> None:
    plugin = Plugin(configuration(shelf, tmp_path, {"main": {"a": "active", "b": "decrypt"}}), RecordingObserver())
    plugin.start()
    until(lambda: plugin.endpoints["main"].snapshot.healthz == "ok")
    plugin.stop()
    assert {provider.config.name: provider.closed for provider in shelf.made} == {"a": 1, "b": 1}
    assert not plugin.endpoints["main"]._caretaker._thread.is_alive()
