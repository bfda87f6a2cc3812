"""Which health checks kube-apiserver has for which EncryptionConfiguration, and what turns each of them red."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, kms, write_encryption_configuration
from .conftest import Count
from .plugin import Plugin, configuration, endpoint, local_key
from .processes import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

T = TypeVar("T")

INDIVIDUAL = {"kms-provider-0", "kms-provider-1"}
SINGLE = {"kms-providers"}
NONE: set[str] = set()
TURNED_WITHIN = 100
"""Seconds. A good answer counts for 20 s and a bad one for 3 s, a call to a dead plugin takes 3 s, and the apiserver's
gRPC client waits longer after each failure to connect."""


@dataclass
class Lab:
    """Two plugins, foo and bar, each serving both versions of KMS, and apiservers over one etcd."""

    binaries: Binaries
    directory: Path
    etcd: Etcd
    credentials: Credentials
    plugins: tuple[Plugin, Plugin]
    cleanup: ExitStack
    made: int = 0
    running: dict[str, ApiServer] = field(default_factory=dict)
    """The apiservers of the steps about red and green, by their configuration."""

    def apiserver(self, *versions: str, reload: bool, gates: Sequence[str] = ("KMSv1=true",)) -> ApiServer:
        """Return an apiserver with a KMS provider for each plugin, of the given versions; none if none are given."""
        providers = [
            kms(f"{version}-{plugin.child.name}", plugin.socket(), version)
            for version, plugin in zip(versions, self.plugins, strict=bool(versions))
        ]
        self.made += 1
        name = f"apiserver-{self.made}"
        encryption = self.directory / f"{name}.yaml"
        write_encryption_configuration(encryption, (["secrets"], providers or [{"identity": {}}]))
        apiserver = ApiServer(
            self.binaries,
            self.directory,
            self.etcd,
            self.credentials,
            encryption,
            name=name,
            feature_gates=gates,
            reload=reload,
        )
        self.cleanup.callback(apiserver.kill)
        return apiserver

    def run(self, name: str, *versions: str, reload: bool) -> None:
        """Start an apiserver for the steps about red and green."""
        self.running[name] = self.apiserver(*versions, reload=reload)
        self.running[name].start()

    def checks(self, *versions: str, reload: bool) -> set[str]:
        """Start an apiserver and return the names of its KMS checks, each of which answers under both paths."""
        apiserver = self.apiserver(*versions, reload=reload)
        try:
            apiserver.start()
            listed = {path: _checks(apiserver, path) for path in ("/healthz", "/readyz", "/livez")}
            found = {
                path: {name for name in INDIVIDUAL | SINGLE if apiserver.kube.raw("GET", f"{path}/{name}")[0] == 200}
                for path in listed
            }
        finally:
            apiserver.kill()
        assert found == listed
        assert listed["/livez"] == NONE
        assert listed["/healthz"] == listed["/readyz"]
        return listed["/readyz"]

    def wait_until(self, *, foo: bool, bar: bool) -> dict[str, float]:
        """Wait until each check is as green as its plugins are up; return the seconds until each apiserver was."""
        up = {"kms-provider-0": foo, "kms-provider-1": bar, "kms-providers": foo and bar}
        return self._of_each(lambda apiserver: _wait_until(apiserver, up))

    def words(self) -> dict[str, str]:
        """Return what the red checks of each apiserver say."""
        return self._of_each(lambda apiserver: " ".join(_words(apiserver)))

    def _of_each(self, look: Callable[[ApiServer], T]) -> dict[str, T]:
        """Look at all running apiservers at once, for a check of a dead plugin takes its time-out."""
        with ThreadPoolExecutor(len(self.running)) as pool:
            return dict(zip(self.running, pool.map(look, self.running.values()), strict=True))


def _checks(apiserver: ApiServer, path: str) -> set[str]:
    """Return the names of the KMS checks that a path lists."""
    return set(re.findall(r"^\[[+-]\](kms-\S+)", apiserver.kube.raw("GET", f"{path}?verbose")[1], re.MULTILINE))


def _wait_until(apiserver: ApiServer, up: dict[str, bool]) -> float:
    start = time.monotonic()
    checks = _checks(apiserver, "/readyz")
    wanted = {f"/readyz/{check}": 200 if up[check] else 500 for check in checks}
    # The whole follows its parts, unless they are left out; whether the process lives does not depend on a plugin.
    wanted["/readyz"] = 200 if all(up[check] for check in checks) else 500
    wanted["/readyz?" + "&".join(f"exclude={check}" for check in sorted(checks))] = 200
    wanted["/livez"] = 200

    def seen() -> bool:
        statuses = {path: apiserver.kube.raw("GET", path)[0] for path in wanted}
        assert statuses == wanted
        return True

    until(seen, TURNED_WITHIN, apiserver.child.name, apiserver.child)
    return round(time.monotonic() - start, 1)


def _words(apiserver: ApiServer) -> Iterator[str]:
    for check in sorted(_checks(apiserver, "/readyz")):
        status, text = apiserver.kube.raw("GET", f"/readyz/{check}")
        if status != 200:
            yield text


@pytest.fixture(scope="module")
def lab(binaries: Binaries, directory: Path) -> Iterator[Lab]:
    etcd, plugins = Etcd(binaries, directory), (Plugin(directory, "foo"), Plugin(directory, "bar"))
    for plugin in plugins:
        key = local_key(directory, plugin.child.name)
        served = endpoint("main", plugin.socket(), 1, {key["name"]: "active"}, kmsVersions=["v2", "v1beta1"])
        plugin.configure(configuration(plugin, [key], [served]))
    with ExitStack() as stack:
        stack.callback(etcd.stop)
        etcd.start()
        for plugin in plugins:
            stack.callback(plugin.stop)
            plugin.start(plugin.socket())
        yield Lab(binaries, directory, etcd, Credentials(directory), plugins, stack)


def test_kms_v1_only_has_a_check_for_each_provider_without_reload_and_one_with_it(lab: Lab) -> None:
    assert lab.checks("v1", "v1", reload=False) == INDIVIDUAL
    assert lab.checks("v1", "v1", reload=True) == SINGLE


def test_kms_v2_only_has_one_check_without_reload_and_with_it(lab: Lab) -> None:
    assert lab.checks("v2", "v2", reload=False) == SINGLE
    assert lab.checks("v2", "v2", reload=True) == SINGLE


def test_both_versions_have_a_check_for_each_provider_without_reload_and_one_with_it(lab: Lab) -> None:
    assert lab.checks("v2", "v1", reload=False) == INDIVIDUAL
    assert lab.checks("v2", "v1", reload=True) == SINGLE


def test_no_kms_has_no_check_without_reload_and_one_with_it(lab: Lab) -> None:
    assert lab.checks(reload=False) == NONE
    assert lab.checks(reload=True) == SINGLE


def test_without_its_feature_gate_kms_v1_ends_the_apiserver_at_its_start(lab: Lab) -> None:
    apiserver = lab.apiserver("v2", "v1", reload=False, gates=())
    apiserver.child.start()
    assert apiserver.child.wait(60) != 0
    assert "KMSv1 is deprecated" in apiserver.child.tail()


@pytest.mark.slow
def test_while_both_plugins_are_up_each_check_is_green(lab: Lab) -> None:
    lab.run("v1", "v1", "v1", reload=False)
    lab.run("v2", "v2", "v2", reload=False)
    lab.run("v2 and v1", "v2", "v1", reload=False)
    lab.run("v2 and v1 with reload", "v2", "v1", reload=True)
    lab.wait_until(foo=True, bar=True)
    assert set(lab.words().values()) == {""}


@pytest.mark.slow
def test_a_stopped_plugin_turns_its_own_check_red_or_the_one_that_there_is(lab: Lab, count: Count) -> None:
    lab.plugins[0].stop()
    _count_seconds(count, lab.wait_until(foo=False, bar=True))
    words = lab.words()
    assert all("foo/kms.sock: connect: no such file" in text and "bar" not in text for text in words.values())
    # The one check names the plugin by the check that it would have had.
    assert all("kms-provider-0: " in words[name] for name in ("v2", "v2 and v1 with reload"))


@pytest.mark.slow
def test_with_both_plugins_down_each_check_is_red(lab: Lab, count: Count) -> None:
    lab.plugins[1].kill()
    _count_seconds(count, lab.wait_until(foo=False, bar=False))
    assert all("foo/kms.sock" in text and "bar/kms.sock" in text for text in lab.words().values())


@pytest.mark.slow
def test_the_plugin_that_comes_back_first_turns_its_own_check_green(lab: Lab, count: Count) -> None:
    lab.plugins[0].start(lab.plugins[0].socket())
    _count_seconds(count, lab.wait_until(foo=True, bar=False))
    assert all("bar/kms.sock: connect: connection refused" in text for text in lab.words().values())


@pytest.mark.slow
def test_a_plugin_that_answers_but_has_no_key_is_red_in_its_own_words(lab: Lab, count: Count) -> None:
    (lab.directory / "bar.key").rename(lab.directory / "away.key")
    lab.plugins[1].start()
    start = time.monotonic()
    way_out = "mend key bar, and all goes on by itself"
    missing = f"{way_out}: key bar: open: {lab.directory}/bar.key does not exist"
    until(lambda: all(missing in text for text in lab.words().values()), TURNED_WITHIN, "each check says why")
    count("seconds until all say so", round(time.monotonic() - start, 1))
    lab.wait_until(foo=True, bar=False)


@pytest.mark.slow
def test_once_it_has_its_key_each_check_is_green(lab: Lab, count: Count) -> None:
    (lab.directory / "away.key").rename(lab.directory / "bar.key")
    _count_seconds(count, lab.wait_until(foo=True, bar=True))


def _count_seconds(count: Count, seconds: dict[str, float]) -> None:
    for name, number in seconds.items():
        count(f"seconds for {name}", number)
