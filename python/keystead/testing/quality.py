"""The quality file: which tier a provider claims, which rules it is exempt from and why, where it is documented.

It lies beside the module of the provider, as `quality.yaml`, and is shipped with it, so that an operator can ask
`keystead provider info`. One file may speak for several providers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from keystead.testing.rules import Tier

FILE_NAME = "quality.yaml"
KIT = 1
"""The version of the set of rules. It grows when a rule is added; a file that names an older one goes on to count."""

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=12)]
RuleId = Annotated[str, StringConstraints(pattern=r"^KS-R[0-9]{3}$")]


class QualityInvalid(ValueError):
    """A quality file cannot be read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What the quality file says of one provider."""

    tier: Tier | None = None
    """The tier that is claimed."""
    exempt: Mapping[str, str] = field(default_factory=dict)
    """Id of a rule to the reason for doing without."""
    documentation: str = ""
    """The page for operators: a path beside the quality file, or below a folder above it."""
    signed: str = ""
    """How a release is signed, and how to check that."""
    file: Path | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tier: Literal["bronze", "silver", "gold"] | None = None
    documentation: str = ""
    signed: str = ""
    exempt: dict[RuleId, Reason] = Field(default_factory=dict)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kit: int = Field(ge=1, le=KIT)
    providers: dict[str, _Entry]


def read(path: Path, provider: str) -> Quality:
    """Read what a quality file says of a provider. Raises `QualityInvalid`, also if it says nothing of it."""
    try:
        content = YAML(typ="safe").load(path.read_text())
    except (OSError, YAMLError, UnicodeDecodeError) as exc:
        raise QualityInvalid(f"{path}: {exc}") from exc
    try:
        file = _File.model_validate(content)
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in exc.errors())
        raise QualityInvalid(f"{path}: {problems}") from None
    if provider not in file.providers:
        raise QualityInvalid(f"{path}: has nothing for {provider!r}; it has {', '.join(sorted(file.providers))}")
    entry = file.providers[provider]
    tier = Tier[entry.tier.upper()] if entry.tier else None
    return Quality(tier, dict(entry.exempt), entry.documentation, entry.signed, path)


def beside(module: str) -> Path | None:
    """Return the quality file beside a module, without importing the module itself; `None` if there is none."""
    try:
        spec: Any = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).with_name(FILE_NAME)
    return found if found.is_file() else None


def of_class(provider: type, name: str) -> Quality:
    """Return what the file beside a provider's class says of it, or nothing if there is no file."""
    found = beside(provider.__module__)
    return read(found, name) if found is not None else Quality()
