"""What an operator gives to all nodes, and how a test departs from the rules for that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from model import rollout

LABELS = (("one", ()), ("one", ("two",)), ("two", ("one",)), ("two", ()))
"""The label of the cluster and those that are accepted besides: what follows what, when it is changed."""


class Release(NamedTuple):
    """One configuration, as far as it is about keys and labels."""

    config: rollout.Config
    epoch: int
    label: int = 0
    """An index of `LABELS`."""

    @property
    def cluster(self) -> str:
        return LABELS[self.label][0]

    @property
    def accepts(self) -> frozenset[str]:
        """All labels that this configuration decrypts."""
        return frozenset((self.cluster, *LABELS[self.label][1]))

    def __str__(self) -> str:
        return f"{self.config}; label {'+'.join(sorted(self.accepts))}, writes {self.cluster}; epoch {self.epoch}"


@dataclass(frozen=True)
class Practice:
    """How a cluster is run. The default is what docs/spec/rollout.md asks for."""

    rules: rollout.Rules = field(default_factory=lambda: replace(rollout.Rules(), configs=rollout.ALL, in_order=False))
    """The operator's: the barrier, and where one looks before a key goes."""
    nodes: int = 3
    soak: float = 120.0
    """Seconds, as in the configuration; so is the next one."""
    version_delay: float = 120.0
    lag: float = 90.0
    """Seconds within which every replica has a new version."""
    spread: float | None = None
    """Seconds within which every node takes up a release that brings a key, if the operator keeps to no barrier."""
    labels: bool = True
    """Whether the label of the cluster changes too."""
    label_barrier: bool = True
    """Whether a new label is written nowhere before it is accepted everywhere."""
    zeroize: bool = False
    replaced: bool = True
    """Whether nodes are replaced by new ones, or lose their state directory."""
