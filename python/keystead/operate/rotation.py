"""The steps of a rotation of one endpoint: what to change on each node, and what to wait for before the next step.

Nothing is changed here. The order is that of docs/spec/rollout.md: no node writes under a key before every node can
read it, and no key goes before nothing needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keystead.config import Configuration, EndpointConfig
from keystead.registry import provider_class
from keystead.suggest import did_you_mean

MAX_MEMBERS = 8
SECONDS_PER_MINUTE = 60
EVERY_NODE = "on every node"
ONCE = "once"
RECOVERY = "recovery"
STATUS = "keystead status --from NODE1 NODE2 ..."
VERIFY = "keystead rotate verify --from NODE1 NODE2 ..."


class Impossible(ValueError):
    """What was asked for cannot be done; the text says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. It is finished everywhere before the next one begins anywhere."""

    title: str
    where: str
    """`on every node` or `once`."""
    change: str = ""
    """The part of the configuration as it is to be, in YAML; empty if nothing changes."""
    run: tuple[str, ...] = ()
    """Commands."""
    wait: tuple[str, ...] = ()
    """What must be true before the next step."""
    back: str = ""
    """How to go back from here."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted. Without anything it is a new local KEK and new seeds under the same keys."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    pin: Mapping[str, str] | None = None
    """Versions to keep to, by key."""


@dataclass(frozen=True, slots=True)
class Part:
    """A member as a step has it."""

    key: str
    stage: str
    role: str = "online"


def plan(config: Configuration, name: str, wish: Wish) -> list[Step]:
    """The steps for the endpoint `name`. Raises `Impossible`."""
    endpoint = _endpoint(config, name)
    members = [Part(member.key, member.stage, member.role) for member in endpoint.members]
    _check(members, wish)
    return [*_steps(config, endpoint, members, wish)]


def _steps(config: Configuration, endpoint: EndpointConfig, members: list[Part], wish: Wish) -> Iterator[Step]:
    parts = {part.key: part for part in members}
    by_hand = _recovery_keys(config)
    new = [Part(key, "decrypt") for key in wish.add if key not in parts and key not in by_hand]
    proving = [key for key in wish.add if key not in by_hand]
    retired = [key for key in wish.drop if parts[key].stage == "active"]
    epoch = endpoint.epoch
    if proving:
        members = [*members, *new]
        yield _stage(config, endpoint, members, proving, [part.key for part in new])
    members = [*members, *(Part(key, "active", RECOVERY) for key in wish.add if key in by_hand)]
    if wish.add or retired or wish.pin or not wish.drop:
        epoch += 1
        before, members = members, [*_turned(members, wish.add, retired)]
        yield _switch(endpoint, before, members, epoch, wish)
        yield _rewrite()
    gone = [part.key for part in members if part.key in wish.drop]
    if gone:
        yield _prove_unused(gone)
        yield _take_away(endpoint, [part for part in members if part.key not in gone], epoch, gone)


def _recovery_keys(config: Configuration) -> set[str]:
    """The keys that only wrap, with a public key: there is nothing to prove, and they decrypt nothing here."""
    return {key.name for key in config.keys if not provider_class(key.provider).capabilities.authenticated_wrap}


def _stage(
    config: Configuration, endpoint: EndpointConfig, members: list[Part], add: Sequence[str], new: Sequence[str]
) -> Step:
    known = {key.name for key in config.keys}
    entries = "".join(
        f"- {{name: {key}, provider: ...}}    # and its other fields\n" for key in new if key not in known
    )
    change = (f"keys:\n{entries}" if entries else "") + _yaml(endpoint.name, endpoint.epoch, members) if new else ""
    waits = [f"until {STATUS} says that all nodes agree, and that {_and(add)} may become active"]
    if endpoint.soak > 0:
        length = f"{endpoint.soak / 60:.0f} min" if endpoint.soak >= SECONDS_PER_MINUTE else f"{endpoint.soak:g} s"
        soak = f"{length}, its soak; the plugin waits for that too"
        waits.append(f"until each node has had {_and(add)} for {soak}")
    return Step(
        f"Let {_and(add)} decrypt" + ("" if new else ", which the configuration has already"),
        EVERY_NODE,
        change,
        wait=tuple(waits),
        back=f"take {_and(new)} away again, for nothing has been written under it" if new else "",
    )


def _switch(endpoint: EndpointConfig, before: list[Part], members: list[Part], epoch: int, wish: Wish) -> Step:
    pins = "".join(f'- {{name: {key}, ..., version: "{version}"}}\n' for key, version in (wish.pin or {}).items())
    done = [f"let {_and(wish.add)} encrypt"] if wish.add else []
    done += [f"let {_and(keys)} only decrypt"] if (keys := _now_decrypting(before, members)) else []
    done += [f"take {_and(gone)} out"] if (gone := _gone(before, members)) else []
    done += [f"keep {key} to version {version}" for key, version in (wish.pin or {}).items()]
    title = ", ".join(done) or "raise the epoch"
    waits = [f"until {VERIFY} succeeds: all nodes show the same key_id, ks1.e{epoch}...."]
    if "v2" in endpoint.kms_versions:
        waits.append(
            "until every API server has taken it up, a minute later at most: docs/operate/rotate.md has a loop"
        )
    if "v1beta1" in endpoint.kms_versions:
        waits.append("KMS v1 knows no key_id: there every object must be rewritten, and nothing shows which were not")
    back = f"the members of the step before, under epoch {epoch + 1}: an epoch is never lowered"
    return Step(
        title[0].upper() + title[1:],
        f"{EVERY_NODE}, one after the other",
        (f"keys:\n{pins}" if pins else "") + _yaml(endpoint.name, epoch, members),
        wait=tuple(waits),
        back=back,
    )


def _rewrite() -> Step:
    return Step(
        "Rewrite what is stored",
        ONCE,
        run=("kubectl get secrets -A -o json | kubectl replace -f -    # or: keystead generate migration",),
        wait=(
            "until it has succeeded for every resource of the EncryptionConfiguration. What has the current key_id "
            "is left alone: a second run costs nothing, and one under an unchanged key_id merges no seeds",
            "until keystead inventory --etcd URL shows no object under an older key_id",
        ),
    )


def _prove_unused(drop: Sequence[str]) -> Step:
    return Step(
        f"Prove that nothing needs {_and(drop)} any more",
        ONCE,
        run=tuple(
            f"keystead key retire-check {key} --etcd URL --snapshot BACKUP ... --from NODE1 NODE2 ..." for key in drop
        ),
        wait=(
            "until it ends with 0, with every backup that you may restore. If in doubt stop here: a key that only "
            "decrypts costs nothing",
        ),
    )


def _take_away(endpoint: EndpointConfig, members: list[Part], epoch: int, drop: Sequence[str]) -> Step:
    return Step(
        f"Take {_and(drop)} out of members and keys",
        EVERY_NODE,
        _yaml(endpoint.name, epoch, members),
        wait=(
            f"until {STATUS} says that all nodes agree",
            f"until an API server that was started anew reads everything; then disable {_and(drop)} in its KMS, and "
            "destroy it last",
        ),
        back=f"put {_and(drop)} back with stage decrypt",
    )


def _turned(members: Iterable[Part], active: Sequence[str], retired: Sequence[str]) -> Iterator[Part]:
    """The same members with these stages; those that retire last, for the order is that of preference."""
    turned = [Part(part.key, "active" if part.key in active else part.stage, part.role) for part in members]
    yield from (part for part in turned if part.key not in retired)
    # A recovery key decrypts nothing here, so it goes at once.
    yield from (Part(part.key, "decrypt") for part in turned if part.key in retired and part.role != RECOVERY)


def _now_decrypting(before: Iterable[Part], after: Iterable[Part]) -> list[str]:
    stages = {part.key: part.stage for part in before}
    return [part.key for part in after if part.stage == "decrypt" and stages[part.key] == "active"]


def _gone(before: Iterable[Part], after: Iterable[Part]) -> list[str]:
    left = {part.key for part in after}
    return [part.key for part in before if part.key not in left]


def _yaml(name: str, epoch: int, members: Iterable[Part]) -> str:
    lines = ["endpoints:", f"- name: {name}", f"  epoch: {epoch}", "  members:"]
    for part in members:
        role = f", role: {part.role}" if part.role != "online" else ""
        lines.append(f"  - {{key: {part.key}, stage: {part.stage}{role}}}")
    return "\n".join(lines) + "\n"


def _endpoint(config: Configuration, name: str) -> EndpointConfig:
    names = [endpoint.name for endpoint in config.endpoints]
    if name not in names:
        raise Impossible(f"no endpoint has the name {name!r}{did_you_mean(name, names)}; there is {_and(names)}")
    return config.endpoints[names.index(name)]


def _check(members: list[Part], wish: Wish) -> None:
    parts = {part.key: part for part in members}
    for key in wish.add:
        if key in wish.drop:
            raise Impossible(f"{key} cannot be added and dropped at once")
        if key in parts and parts[key].stage == "active":
            raise Impossible(f"{key} is active already")
    for key in (*wish.drop, *(wish.pin or {})):
        if key not in parts:
            raise Impossible(f"{key} is no member of this endpoint{did_you_mean(key, parts)}; there is {_and(parts)}")
    if len({*parts, *wish.add}) > MAX_MEMBERS:
        raise Impossible(f"an endpoint has {MAX_MEMBERS} members at most: drop one first")
    left = [part.key for part in members if part.stage == "active" and part.role == "online"]
    if not [key for key in (*left, *wish.add) if key not in wish.drop]:
        raise Impossible("no active key would be left: add another one at the same time, with --add")


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
