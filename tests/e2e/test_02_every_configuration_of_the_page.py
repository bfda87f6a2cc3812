"""The EncryptionConfigurations of the Kubernetes page on KMS providers, each served by one Keystead on two sockets."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from .binaries import Binaries
from .cluster import ApiServer, Credentials, Etcd, write_yaml
from .conftest import Count
from .etcd import readable_in
from .kube import Object
from .plugin import Plugin, configuration, endpoint, local_key
from .resources import RESOURCES, define_pandas

pytestmark = pytest.mark.e2e

FOO, BAR = "myKmsPluginFoo", "myKmsPluginBar"
PAGE = Path(__file__).parent / "page"
CACHE_SIZE = 100
"""The DEKs that an apiserver keeps by the page's KMS v1 configuration."""
EACH = 40
"""Objects of each resource: together more than `CACHE_SIZE`."""
LATER = 5
"""Objects of each resource that are created after each change."""
AS_NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
SYSTEM_PYTHON = "/usr/bin/python3"
"""An interpreter that another user may run, which this one in somebody's home may not be."""
CONNECT = """
import errno, socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.stdin.read())
    print("connected")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@dataclass
class Lab:
    """One cluster in one of the two configurations."""

    api: str
    sockets: Path
    encryption: Path
    etcd: Etcd
    plugin: Plugin
    apiserver: ApiServer
    page: Object
    """The EncryptionConfiguration, first as on the page."""
    stored: dict[str, Object] = field(default_factory=dict)
    """What was created, by API path."""
    markers: list[str] = field(default_factory=list)
    """The texts that must not be readable in etcd."""

    @property
    def providers(self) -> list[Object]:
        found: list[Object] = self.page["resources"][0]["providers"]
        return found

    @property
    def service(self) -> str:
        """The service that the plugin is called by, as its metrics name it."""
        return {"v1": "v1beta1", "v2": "v2"}[self.api]

    def serve(self, **sockets: str) -> None:
        """Have one Keystead process serve an endpoint with a key of its own on each of the sockets."""
        keys = [local_key(self.encryption.parent, name) for name in sockets]
        versions = [self.service]
        endpoints = [endpoint(name, at, 1, {name: "active"}, kmsVersions=versions) for name, at in sockets.items()]
        new = configuration(self.plugin, keys, endpoints)
        if self.plugin.child.running:
            self.plugin.reload(new)
        else:
            self.plugin.configure(new)

    @property
    def abstract(self) -> str:
        """The address of a socket outside the file system."""
        return f"unix:///@{self.sockets.name}"

    def calls(self, method: str) -> int:
        """Count the plugin's calls on all sockets."""
        return self.plugin.calls(f"{self.service}/{method}")

    def create(self, prefix: str, each: int) -> int:
        """Create so many objects of each resource and return how many that makes."""
        for resource in RESOURCES:
            for number in range(each):
                name = f"{prefix}-{number}"
                text = f"not to be read in etcd: {resource.name} {name}"
                body = resource.body(name, text)
                self.apiserver.kube.create(resource.collection, body)
                self.stored[f"{resource.collection}/{name}"] = body
                self.markers.append(text)
        return each * len(RESOURCES)

    def read_all(self) -> int:
        """GET every object, compare it, and return how many there were."""
        for path, body in self.stored.items():
            found = self.apiserver.kube.get(path)
            assert (found.get("data"), found.get("spec")) == (body.get("data"), body.get("spec")), path
        return len(self.stored)

    def by_provider(self) -> dict[str, int]:
        """Count the values in etcd that each provider encrypted; none may be readable, or anybody else's."""
        values = {key: value for one in RESOURCES for key, value in self.etcd.reader.values(one.in_etcd).items()}
        prefixes = {name: f"k8s:enc:kms:{self.api}:{name}:".encode() for name in (FOO, BAR)}
        counts = {name: sum(v.startswith(prefix) for v in values.values()) for name, prefix in prefixes.items()}
        assert sum(counts.values()) == len(values) >= len(self.stored)
        everything = self.etcd.reader.values().values()
        assert sum(readable_in(everything, marker) for marker in self.markers) == 0
        return counts

    def restart_with(self, providers: list[Object]) -> None:
        """Write an EncryptionConfiguration with these providers and restart the apiserver, as the page says."""
        self.page["resources"][0]["providers"] = providers
        write_yaml(self.encryption, self.page)
        self.apiserver.restart()


@pytest.fixture(scope="module", params=["kms-v1", "kms-v2"])
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(binaries: Binaries, variant: str, directory: Path) -> Iterator[Lab]:
    # Others may enter this directory, so that nothing but the mode of a socket in it keeps them out.
    sockets = Path(tempfile.mkdtemp(prefix="keystead-", dir="/tmp"))
    sockets.chmod(0o755)
    text = (PAGE / f"{variant}.yaml").read_text().replace("/tmp/", f"{sockets}/")
    encryption = directory / "encryption.yaml"
    encryption.write_text(text)
    plugin, etcd = Plugin(directory), Etcd(binaries, directory)
    gates = ["KMSv1=true"] if variant == "kms-v1" else []
    apiserver = ApiServer(
        binaries, directory, etcd, Credentials(directory), encryption, feature_gates=gates, reload=False
    )
    api = variant.removeprefix("kms-")
    lab = Lab(api, sockets, encryption, etcd, plugin, apiserver, page=YAML(typ="safe", pure=True).load(text))
    foo, bar = (provider["kms"]["endpoint"] for provider in lab.providers)
    lab.serve(foo=foo, bar=bar)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, sockets)
        stack.callback(etcd.stop)
        etcd.start()
        stack.callback(plugin.stop)
        plugin.start()
        plugin.wait_until_ready()
        stack.callback(apiserver.kill)
        apiserver.start()
        yield lab


def test_what_the_page_has_encrypted_is_created_a_custom_resource_included(lab: Lab, count: Count) -> None:
    define_pandas(lab.apiserver.kube)
    before = lab.calls("Encrypt")
    created = lab.create("first", EACH)
    encrypts = lab.calls("Encrypt") - before
    assert encrypts == {"v1": created, "v2": 0}[lab.api]
    count("created", created)
    count("Encrypts", encrypts)


def test_each_value_is_under_the_first_providers_name(lab: Lab, count: Count) -> None:
    found = lab.by_provider()
    assert found[BAR] == 0
    count("values", found[FOO])
    count("markers searched for", len(lab.markers))


def test_a_restarted_apiserver_reads_all(lab: Lab, count: Count) -> None:
    encrypts, decrypts = lab.calls("Encrypt"), lab.calls("Decrypt")
    lab.apiserver.restart()
    read = lab.read_all()
    encrypts, first = lab.calls("Encrypt") - encrypts, lab.calls("Decrypt") - decrypts
    lab.read_all()
    again = lab.calls("Decrypt") - decrypts - first

    if lab.api == "v1":
        # The health check's "ping" to each provider, and once more where the start took longer than 20 s.
        assert encrypts in (2, 4)
        assert first >= read
        # Reading more objects than the cache holds, in the same order, finds none of them in it.
        assert again == read > CACHE_SIZE
    else:
        # A new seed for each provider.
        assert encrypts == 2
        # The one seed of before is wanted for three resources at once, from 1.37 on by ten workers for each.
        assert 1 <= first <= 3 * 10
        assert again == 0
    count("read", read)
    count("Encrypts", encrypts)
    count("Decrypts", first)
    count("Decrypts when read again", again)


def test_health_is_green_at_the_paths_of_this_version(lab: Lab) -> None:
    checks = {"v1": ["kms-provider-0", "kms-provider-1"], "v2": ["kms-providers"]}[lab.api]
    assert all(lab.apiserver.is_healthy(f"/healthz/{check}") for check in checks)


def test_with_the_order_swapped_new_objects_are_bars_and_old_ones_are_read_through_foo(lab: Lab, count: Count) -> None:
    old = lab.by_provider()[FOO]
    lab.restart_with(lab.providers[::-1])
    read = lab.read_all()
    through_foo = lab.apiserver.metric(
        "apiserver_storage_transformation_operations_total",
        transformation_type="from_storage",
        transformer_prefix=f"k8s:enc:kms:{lab.api}:{FOO}:",
        status="OK",
    )
    assert through_foo >= read
    created = lab.create("second", LATER)
    assert lab.by_provider() == {FOO: old, BAR: created}
    count("read through Foo", read)
    count("under Bar", created)


def test_after_a_migration_foo_is_not_needed_any_more(lab: Lab, count: Count) -> None:
    migrated = sum(lab.apiserver.kubectl.migrate(resource.name) for resource in RESOURCES)
    assert lab.by_provider() == {FOO: 0, BAR: migrated}
    bar = lab.providers[0]
    lab.serve(bar=bar["kms"]["endpoint"])
    (lab.encryption.parent / "foo.key").unlink()
    lab.restart_with([bar])
    count("migrated", migrated)
    count("read without Foo", lab.read_all())


def test_an_abstract_socket_serves_an_apiserver_as_well(lab: Lab, count: Count) -> None:
    lab.serve(bar=lab.abstract)
    (bar,) = lab.providers
    lab.restart_with([{"kms": bar["kms"] | {"endpoint": lab.abstract}}])
    created = lab.create("abstract", LATER)
    assert lab.by_provider()[FOO] == 0
    # A mode of 0600 needs no warning.
    (warning,) = lab.plugin.events("socket.exposed")
    assert "every process in this network namespace can decrypt" in warning["msg"]
    count("created", created)
    count("read", lab.read_all())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reaches_the_abstract_socket_and_not_one_in_the_file_system(lab: Lab, count: Count) -> None:
    in_files = f"unix://{lab.sockets}/private.sock"
    lab.serve(bar=lab.abstract, private=in_files)
    assert _connect(in_files) == _connect(lab.abstract) == "connected"
    seen = {socket: _connect(socket, "setpriv", *AS_NOBODY) for socket in (in_files, lab.abstract)}
    assert seen == {in_files: "EACCES", lab.abstract: "connected"}
    # Nothing but the mode keeps others out.
    Path(in_files.removeprefix("unix://")).chmod(0o666)
    assert _connect(in_files, "setpriv", *AS_NOBODY) == "connected"
    count("nobody, mode 0600", seen[in_files])
    count("nobody, abstract", seen[lab.abstract])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter another network namespace")
def test_another_network_namespace_has_the_socket_in_the_file_system_only(lab: Lab, count: Count) -> None:
    in_files = f"unix://{lab.sockets}/private.sock"
    seen = {socket: _connect(socket, "unshare", "--net") for socket in (in_files, lab.abstract)}
    assert seen == {in_files: "connected", lab.abstract: "ECONNREFUSED"}
    count("mode 0600", seen[in_files])
    count("abstract", seen[lab.abstract])


def _connect(socket: str, *wrapper: str) -> str:
    """Connect from another process, which is all that a caller needs to decrypt; return what came of it."""
    address = socket.removeprefix("unix://").replace("/@", "\0", 1)
    done = subprocess.run(
        [*wrapper, SYSTEM_PYTHON, "-I", "-c", CONNECT],
        input=address,
        capture_output=True,
        text=True,
        cwd="/",
        timeout=10,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
