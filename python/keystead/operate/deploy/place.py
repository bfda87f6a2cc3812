"""Where the plugin's files are on a node, as a configuration says or as the documentation has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from keystead import __version__
from keystead.config import Configuration
from keystead.operate.doctor.files import named_files

IMAGE = f"keystead:{__version__}"
NON_ROOT = 65532
"""The user of the image."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the node, at the same path in a container."""

    name: str
    path: Path
    writable: bool


@dataclass(frozen=True, slots=True)
class Place:
    """What a manifest has to name."""

    image: str = IMAGE
    config: Path = Path("/etc/keystead/config.yaml")
    read: tuple[Path, ...] = ()
    """Directories that the configuration names files in, besides its own."""
    state: Path | None = Path("/var/lib/keystead")
    sockets: tuple[Path, ...] = (Path("/run/keystead"),)
    http: str = "127.0.0.1:9853"
    """Empty for none."""
    https: bool = False
    user: int = 0

    @property
    def mounts(self) -> list[Mount]:
        """Every directory once, those that are inside of another left out."""
        wanted = [("config", self.config.parent, False)]
        wanted += [(f"files-{number}", path, False) for number, path in enumerate(self.read, 1)]
        wanted += [("state", self.state, True)] if self.state is not None else []
        wanted += [
            (f"sockets-{number}" if len(self.sockets) > 1 else "sockets", path, True)
            for number, path in enumerate(self.sockets, 1)
        ]
        chosen: list[Mount] = []
        for name, path, writable in wanted:
            if not any(path == one.path or (one.path in path.parents and not writable) for one in chosen):
                chosen.append(Mount(name, path, writable))
        return chosen

    @property
    def port(self) -> str:
        """The port for probes, or an empty text."""
        return self.http.rpartition(":")[2]

    @property
    def host(self) -> str:
        """The address for probes."""
        return self.http.rpartition(":")[0].strip("[]")


def of(config: Configuration, path: Path, image: str = IMAGE, user: int = 0) -> Place:
    """The directories that a configuration names."""
    files = [file for key in config.keys for file in named_files(key).values()]
    http = config.observability.http
    files += [
        path for path in (http.token_file, *((http.tls.cert_file, http.tls.key_file) if http.tls else ())) if path
    ]
    sockets = [one.socket.path for one in config.endpoints if one.socket.path is not None]
    return Place(
        image=image,
        config=path,
        read=tuple(_once(file.parent for file in files)),
        state=config.state_dir,
        sockets=tuple(_once(socket.parent for socket in sockets)),
        http=http.address,
        https=http.tls is not None,
        user=user,
    )


def _once(paths: Iterable[Path]) -> Iterable[Path]:
    return dict.fromkeys(paths)
