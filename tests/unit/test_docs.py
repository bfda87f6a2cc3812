"""The pages hold: links resolve, every field, command, error and metric has its place, every example is valid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from keystead import errors, registry
from keystead.cli import main
from keystead.config import load_text
from keystead.config.outline import outline
from keystead.config.schema import schema
from keystead.providers.local import LocalProvider
from keystead.server.codes import code_of
from keystead.server.metrics import Metrics
from keystead.server.reload import Standing
from vectors import reference

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "proto", "tests", "examples")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def page(name: str) -> str:
    return (ROOT / name).read_text()


def rows(text: str) -> list[list[str]]:
    """The rows of all tables, without heads: a head is followed by a line of dashes."""
    lines = text.splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|--") and not following.startswith("|--")
    ]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for path in PAGES:
        for fence in FENCE.finditer(path.read_text()):
            if fence[1] == language:
                yield str(path.relative_to(ROOT)), fence[2]


def anchors(path: Path) -> set[str]:
    """The names that a page's headings get where it is shown: lower case, no punctuation, dashes for spaces."""
    text = FENCE.sub("", path.read_text())
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_there_are_pages_to_check() -> None:
    names = {str(path.relative_to(ROOT)) for path in PAGES}
    assert {"README.md", "SECURITY.md", "docs/README.md", "docs/spec/format.md", "docs/providers/local.md"} <= names


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCE.sub("", path.read_text())):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), link
        assert found.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(found), link


def test_every_page_of_docs_is_in_the_index() -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    assert {path for path in PAGES if path.is_relative_to(ROOT / "docs")} - linked == {index}


def test_every_field_of_the_configuration_is_documented_with_its_default_and_no_other() -> None:
    entries = outline(schema({"local": LocalProvider}))
    assert len(entries) > 25
    documented = {row[0].strip("`"): row[2].strip("`") for row in rows(page("docs/configuration.md"))}
    assert documented.keys() <= {entry.path for entry in entries}
    for entry in entries:
        default = documented[entry.path]
        if entry.type != "mapping":
            assert default == ("required" if entry.required else entry.default or "not set"), entry.path


def test_every_field_of_a_key_is_on_the_page_of_its_provider_and_no_other() -> None:
    pages = sorted((ROOT / "docs/providers").glob("*.md"))
    assert pages
    for path in pages:
        fields = registry.provider_class(path.stem).config_type.model_fields
        table = path.read_text().partition("## Configuration")[2].partition("\n## ")[0]
        assert {row[0].strip("`") for row in rows(table)} == {info.alias or name for name, info in fields.items()}


def test_every_folder_of_the_layout_is_there() -> None:
    layout = page("CONTRIBUTING.md").partition("## Layout")[2].partition("\n## ")[0]
    names = re.findall(r"`([^`]+)`", " ".join(row[0] for row in rows(layout)))
    assert len(names) > 15
    for name in names:
        found = [ROOT / name, ROOT / "python/keystead" / name]
        assert any(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in found), name


def test_every_class_of_error_is_documented_with_its_code() -> None:
    classes = {
        name: error
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.KeysteadError)
    }
    assert len(classes) > 15
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows(page("docs/errors.md"))}
    for name, error in classes.items():
        assert documented.get(name) == code_of(error("")).name, name


def test_every_code_that_an_error_becomes_is_explained() -> None:
    explained = {row[0].strip("`") for row in rows(page("docs/errors.md"))}
    raised = {code_of(error("")).name for error in errors.KeysteadError.__subclasses__()}
    assert raised <= explained


def test_every_complete_configuration_lints_clean_and_the_sockets_of_kube_apiserver_are_served() -> None:
    sockets: set[str] = set()
    checked = 0
    for name, text in blocks("yaml"):
        if "kind: KeysteadConfiguration" in text:
            configuration = load_text(text, name)
            sockets.update(endpoint.socket.uri for endpoint in configuration.endpoints)
            checked += 1
    assert checked >= 4
    for name, text in blocks("yaml"):
        if "kind: EncryptionConfiguration" in text:
            providers = YAML(typ="safe").load(text)["resources"][0]["providers"]
            ours = [p["kms"]["endpoint"] for p in providers if p.get("kms", {}).get("name", "").startswith("keystead")]
            assert sockets.issuperset(ours), name
            checked += len(ours)
    assert checked >= 6


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from commands(found, f"{name} {child}")
    else:
        yield name, command


def test_every_command_option_and_variable_is_documented() -> None:
    text = page("docs/commands.md")
    seen = 0
    for name, command in commands(main, "keystead"):
        assert name in text
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{name} {option}"
                seen += 1
            assert parameter.envvar is None or f"`{parameter.envvar}`" in text, f"{name} {parameter.envvar}"
    assert seen > 20


def test_every_metric_is_documented_and_no_other() -> None:
    metrics = Metrics()
    metrics.watch(dict, lambda: Standing("config.yaml", "", datetime.now(UTC)))
    exposed = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    documented = {row[0].strip("`") for row in rows(page("docs/commands.md"))}
    assert exposed == {name for name in documented if name.startswith(("keystead_", "grpc_"))}


def test_the_values_of_the_format_page_are_those_of_an_independent_implementation() -> None:
    wraps = (
        reference.Wrap(b"aws-kms", b"arn:aws:kms:eu-central-1:111122223333:key/k1", b"", reference.ONLINE, bytes(8)),
        reference.Wrap(b"vault-transit", b"prod/transit/k8s", b"3", reference.ONLINE, b"vault:v3:AAAA"),
    )
    order = (
        reference.Wrap(b"local", b"k", b"1", reference.ONLINE, b""),
        reference.Wrap(b"aws-kms", b"arn:x", b"", reference.ONLINE, b""),
    )
    kek, nonce, plaintext = bytes(range(32)), bytes(range(0x40, 0x58)), bytes(range(0x80, 0xA0))
    record = reference.Record(kek, wraps).encode()
    name = reference.key_id(b"prod-eu-1", 7, wraps)
    v1, v2 = (reference.seal_seed(kek, api, name, plaintext, nonce) for api in (1, 2))
    remote_aad, local_nonce = reference.remote_aad(kek, b"prod-eu-1"), bytes(range(0xA0, 0xB8))
    aead_key = reference.derive(kek, "seed-aead")
    expected: dict[str, str | bytes] = {
        "order.key_id": reference.key_id(b"prod-eu-1", 7, order),
        "kek_id": reference.derive(kek, "kek-id"),
        "mac_key": reference.derive(kek, "kek-record-mac"),
        "aead_key": aead_key,
        "record": record,
        "record.mac": record[-32:],
        "key_id": name,
        "remote_aad": remote_aad,
        "v2.aad": reference.seed_aad(reference.seed_header(kek), 2, name),
        "derived_key": reference.inner_key(aead_key, nonce),
        "ciphertext": v2[61:-16],
        "v2.tag": v2[-16:],
        "v2.seed": v2,
        "v1.tag": v1[-16:],
        "v1.cipher.sha256": hashlib.sha256(reference.v1_cipher(name, record, v1)).digest(),
        "state.sha256": hashlib.sha256(reference.state_file(name, record)).digest(),
        "local.blob": local_nonce + reference.xaes_seal(b"\x11" * 32, local_nonce, kek, remote_aad),
    }
    section = page("docs/spec/format.md").partition("## Test vectors")[2]
    printed = {row[0].partition(",")[0]: row[1].strip("`") for row in rows(section)}
    wrong = printed.pop("order.wrong")
    assert wrong not in expected.values()
    assert printed == {name: value if isinstance(value, str) else value.hex() for name, value in expected.items()}
    assert v1[61:-16] == v2[61:-16]


def test_the_sizes_of_the_format_page_follow_from_its_layouts() -> None:
    section = page("docs/spec/format.md").partition("## Sizes")[2].partition("## ")[0]
    refs = {"local": 3, "Vault Transit": 16, "Google Cloud KMS": 70, "AWS KMS": 78}
    schemes = {"local": "local", "Vault Transit": "vault-transit", "Google Cloud KMS": "gcp-kms", "AWS KMS": "aws-kms"}
    versions = {"AWS KMS": 0}
    checked = 0
    for row in rows(section):
        key = row[0].partition(",")[0]
        blob, size, v1, v2 = map(int, row[1:])
        record = 80 + 9 + 7 + len(schemes[key]) + refs[key] + versions.get(key, 1) + blob
        assert (size, v1, v2) == (record, 4 + 40 + 2 + record + 109, 109 + 39 + 16 + record), key
        checked += 1
    assert checked == len(refs)
