"""The Secrets that a scenario has created: what must be read back, and what of them is in etcd."""

from __future__ import annotations

from .etcd import EtcdReader, Sealed, parse_sealed
from .kube import Kube, Object, content_of, secret, secrets
from .traffic import Contents

NAMESPACE = "default"
COLLECTION = secrets(NAMESPACE)


class Stored:
    """Creates Secrets in the namespace `default` through any apiserver, and remembers their contents."""

    def __init__(self, etcd: EtcdReader) -> None:
        self.contents: Contents = {}
        self._etcd = etcd

    def create(self, kube: Kube, prefix: str, number: int = 1) -> list[str]:
        """Create so many Secrets, each with a content of its own, and return their paths."""
        paths = []
        for name in (f"{prefix}-{n:03}" for n in range(number)):
            content = {"password": f"of {name}"}
            kube.create(COLLECTION, secret(name, content))
            self.contents[f"{COLLECTION}/{name}"] = content
            paths.append(f"{COLLECTION}/{name}")
        return paths

    def read_all(self, kube: Kube) -> int:
        """GET every Secret, compare it, and return how many there were."""
        for path, content in self.contents.items():
            assert content_of(kube.get(path)) == content, path
        return len(self.contents)

    def sealed(self) -> dict[str, Sealed]:
        """Return every Secret as it is in etcd, by its path."""
        values = self._etcd.values(f"/registry/secrets/{NAMESPACE}/")
        found = {f"{COLLECTION}/{key.rsplit('/', 1)[1]}": parse_sealed(value) for key, value in values.items()}
        assert found.keys() == self.contents.keys()
        return found

    def key_ids(self) -> set[str]:
        """Name the key_ids that are in use in etcd."""
        return {value.key_id for value in self.sealed().values()}

    def seeds(self) -> int:
        """Count the different seeds, each of which an apiserver that starts has to have decrypted."""
        return len({value.seed for value in self.sealed().values()})

    def records(self) -> int:
        """Count the different local KEKs that the seeds are under."""
        return len({value.record.kek_id for value in self.sealed().values()})


def put_unchanged(kube: Kube, path: str) -> str:
    """Read an object and write it back as it was; return its resourceVersion, which is new only if it was stale."""
    stored: Object = kube.get(path)
    version: str = kube.replace(path, stored)["metadata"]["resourceVersion"]
    return version
