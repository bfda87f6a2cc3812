"""What the Dockerfiles promise: any builder, pinned packages, no root, and only what is needed."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from containers.dockerfile import Dockerfile, read
from containers.services import ROOT, compose, default

KEYSTEAD = ROOT / "docker/Dockerfile"
DOCKERFILES = sorted((ROOT / "docker").rglob("Dockerfile"))
BUILDKIT_FLAGS = ("--mount", "--network", "--security", "--link", "--chmod", "--parents", "--exclude", "--checksum")
PUBLIC_IMAGE = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+:\d+\.\d+[a-z0-9.-]*")
"""An image of the public hub by its name, with a tag that says at least the minor version."""
EXTRAS = ("aws", "gcp", "vault", "all")

every = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))


def test_there_is_one_for_keystead_and_one_for_openbao() -> None:
    assert [str(path.relative_to(ROOT / "docker")) for path in DOCKERFILES] == ["Dockerfile", "openbao/Dockerfile"]


@every
def test_dockers_classic_builder_can_read_it(path: Path) -> None:
    dockerfile = read(path)
    assert len(dockerfile.instructions) >= 5
    assert not [line for line in dockerfile.comments if re.match(r"#\s*(syntax|check)\s*=", line)]
    assert "<<" not in path.read_text()
    used = [flag for instruction in dockerfile.instructions for flag in instruction.flags]
    assert not [flag for flag in used if flag.startswith(BUILDKIT_FLAGS)]


@every
def test_every_stage_stands_on_the_one_base_image_that_an_argument_names(path: Path) -> None:
    dockerfile = read(path)
    assert dockerfile.arguments.keys() == {"BASE_IMAGE"}
    assert PUBLIC_IMAGE.fullmatch(dockerfile.arguments["BASE_IMAGE"])
    assert {stage.base for stage in dockerfile.stages} == {"${BASE_IMAGE}"}
    names: list[str] = []
    for stage in dockerfile.stages:
        for copy in stage.of("COPY"):
            assert all(flag.removeprefix("--from=") in names for flag in copy.flags), copy
        names.append(stage.name)


def test_all_have_the_same_default_base() -> None:
    bases = {read(path).arguments["BASE_IMAGE"] for path in DOCKERFILES}
    arguments = compose()["services"]["keystead"]["build"]["args"]
    assert bases == {default(arguments["BASE_IMAGE"])}


@every
def test_every_package_of_python_is_taken_by_its_hash_and_none_is_kept(path: Path) -> None:
    installs = [
        command
        for instruction in read(path).instructions
        if instruction.keyword == "RUN"
        for command in instruction.commands
        if re.search(r"\bpip\b.* install\b", command)
    ]
    assert installs
    for command in installs:
        assert "--no-cache-dir" in command
        assert "--require-hashes" in command or "--no-deps --no-index /wheels/" in command, command
        assert "--trusted-host" not in command
        assert "index-url" not in command


@every
def test_it_runs_as_nobody_in_particular_and_ships_no_secret(path: Path) -> None:
    final = read(path).stages[-1]
    assert [user.text for user in final.of("USER")] == ["65532:65532"]
    assert final.instructions.index(final.of("USER")[0]) > final.instructions.index(final.of("COPY")[-1])
    assert not final.of("ADD")
    assert all(copy.flags and copy.flags[0].startswith("--from=") for copy in final.of("COPY"))
    text = path.read_text().lower()
    assert not re.search(r"(password|token|secret)\w*=", text)


def test_keystead_is_the_program_and_is_stopped_by_sigterm() -> None:
    final = read(KEYSTEAD).stages[-1]
    (entrypoint,) = final.of("ENTRYPOINT")
    assert entrypoint.words == ["keystead"]
    assert [command.words for command in final.of("CMD")] == [["serve"]]
    assert [signal.text for signal in final.of("STOPSIGNAL")] == ["SIGTERM"]
    assert entrypoint.text.startswith("["), "with a shell in between, SIGTERM would not arrive"
    (health,) = final.of("HEALTHCHECK")
    assert "/livez" in health.text, "readiness depends on remotes, and something might restart for it"


def test_the_labels_name_the_image_and_its_licence() -> None:
    (labels,) = read(KEYSTEAD).stages[-1].of("LABEL")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in labels.text
    assert f'org.opencontainers.image.description="{project["description"]}"' in labels.text


def pins(name: str) -> dict[str, str]:
    """Package to version, of a file of requirements. Each one has hashes."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    found = {}
    for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        if match := re.match(r"([a-z0-9._-]+)==(\S+)", block):
            assert "--hash=sha256:" in block, f"{name}: {match[1]}"
            found[match[1]] = match[2]
    return found


def test_there_is_a_set_of_pinned_packages_for_each_value_of_extras_and_all_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    run, together = pins("run"), pins("run-all")
    assert len(run) >= 10
    for name in EXTRAS:
        found = pins(f"run-{name}")
        assert found.items() >= run.items(), name
        assert together.items() >= found.items(), name
        wanted = [extra for extra in ("aws", "gcp", "vault") if name in (extra, "all")]
        for requirement in (requirement for extra in wanted for requirement in extras[extra]):
            assert re.split("[><=]", requirement)[0] in found, requirement
    assert "boto3" not in pins("run-vault")
    assert "hvac" not in pins("run-aws")
    assert pins("build").keys() == {"maturin"}


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore leaves a path out: the last pattern that matches it or a folder above decides."""
    parents = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
    result = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        if any(
            fnmatch.fnmatchcase(part, plain)
            or (plain.startswith("**/") and fnmatch.fnmatchcase(part.rpartition("/")[2], plain[3:]))
            for part in parents
        ):
            result = not pattern.startswith("!")
    return result


def sources(dockerfile: Dockerfile) -> list[str]:
    """What is copied from the repository."""
    copies = [instruction for instruction in dockerfile.instructions if instruction.keyword == "COPY"]
    return [word.rstrip("/") for copy in copies if not copy.flags for word in copy.words[:-1]]


def test_what_is_copied_reaches_the_builder_and_the_rest_does_not() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copied = [
        source.replace("${EXTRAS}", extra)
        for path in DOCKERFILES
        for source in sources(read(path))
        for extra in (EXTRAS if "${EXTRAS}" in source else ("",))
    ]
    assert len(copied) >= 11
    for source in copied:
        assert (ROOT / source).exists(), source
        assert not ignored(source, patterns), source
    for needed in ("rust/Cargo.lock", "rust/core/src/lib.rs", "python/keystead/_core.pyi"):
        assert not ignored(needed, patterns), needed
    for heavy in (".git", ".venv/bin/python", "rust/target/release/x", "tests/unit", "python/keystead/_core.abi3.so"):
        assert ignored(heavy, patterns), heavy
