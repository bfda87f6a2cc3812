"""The parts of a Pod's manifest that the checks ask for. Reads a Pod, or whatever has a template of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

MAX_BYTES = 1 << 20


class Unreadable(Exception):
    """It is no manifest that can be looked at; the text says why."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the pod."""

    name: str
    kind: str
    """`hostPath`, `emptyDir`, `secret` and so on."""
    path: Path | None
    """On the node, for a hostPath."""
    type: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume as a container sees it."""

    path: Path
    sub_path: str
    volume: Volume
    read_only: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod, and the container that matters in it."""

    kind: str
    spec: Mapping[str, Any]
    container: Mapping[str, Any]

    @property
    def arguments(self) -> list[str]:
        """Command and arguments."""
        return [str(word) for field in ("command", "args") for word in self.container.get(field) or ()]

    def flag(self, name: str) -> str | None:
        """The value of `--name=value` or `--name value`, of the last one given."""
        value = None
        words = self.arguments
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == f"--{name}":
                value = following
            elif word.startswith(f"--{name}="):
                value = word.partition("=")[2]
        return value

    @property
    def image_tag(self) -> str:
        """What follows the last colon of the image, without a digest."""
        return str(self.container.get("image", "")).partition("@")[0].rpartition("/")[2].partition(":")[2]

    def volumes(self) -> Iterator[Volume]:
        """All volumes."""
        for one in self.spec.get("volumes") or ():
            kind = next((field for field in one if field != "name"), "")
            about = one.get(kind) if isinstance(one.get(kind), Mapping) else {}
            path = about.get("path") if kind == "hostPath" else None
            yield Volume(str(one.get("name")), kind, Path(path) if path else None, str(about.get("type", "")))

    def mounts(self) -> Iterator[Mount]:
        """What the container mounts."""
        volumes = {volume.name: volume for volume in self.volumes()}
        for one in self.container.get("volumeMounts") or ():
            volume = volumes.get(str(one.get("name")))
            if volume is not None and one.get("mountPath"):
                yield Mount(
                    Path(str(one["mountPath"])), str(one.get("subPath", "")), volume, bool(one.get("readOnly", False))
                )

    def mount_of(self, path: Path) -> Mount | None:
        """The innermost mount that a path of the container is in."""
        holding = [one for one in self.mounts() if one.path == path or one.path in path.parents]
        return max(holding, key=lambda one: len(one.path.parts), default=None)

    def user(self) -> int | None:
        """runAsUser of the container or the pod."""
        for part in (self.container, self.spec):
            context = part.get("securityContext") or {}
            if "runAsUser" in context:
                return int(context["runAsUser"])
        return None


def read(path: Path, runs: str) -> Pod:
    """Read a manifest and choose its container that runs a program, or is alone. Raises `Unreadable`."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode()
        trees = [tree for tree in YAML(typ="safe").load_all(text) if isinstance(tree, Mapping)]
    except OSError as exc:
        raise Unreadable(exc.strerror or str(exc)) from exc
    except (YAMLError, UnicodeDecodeError) as exc:
        raise Unreadable("is not YAML") from exc
    for tree in trees:
        spec = tree.get("spec")
        template = spec.get("template") if isinstance(spec, Mapping) else None
        if isinstance(template, Mapping):
            spec = template.get("spec")
        if not isinstance(spec, Mapping) or not spec.get("containers"):
            continue
        containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
        chosen = [one for one in containers if runs in f"{one.get('name')} {one.get('image')} {one.get('command')}"]
        if chosen:
            return Pod(str(tree.get("kind")), spec, chosen[-1])
    raise Unreadable(f"has no container that runs {runs}")
