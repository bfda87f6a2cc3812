"""KS-R050 to 059: versions of the remote key are named truly, and old ones go on opening."""

from __future__ import annotations

from keystead.errors import InvalidCiphertext, KeyDisabled, KeyNotFound, ProviderError
from keystead.testing.case import (
    Case,
    attempt,
    is_key,
    must_answer,
    must_refuse,
    needs_capability,
    new_context,
    new_kek,
    soon,
    unwraps,
    wrapped,
)
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, Tier

MAX_VERSION = 64


@BOOK.rule(
    50,
    Tier.BRONZE,
    "`current_version` returns printable text of up to 64 characters, an empty string for a key without versions, or "
    "None.",
    why="The version is part of the key_id that all nodes compare. A form that the host refuses stops the key's use.",
    fix="Return the KMS's own name of the version, the same on every node; None if the credentials may not look.",
    unwraps=False,
)
def current_version_is_well_formed(case: Case) -> None:
    provider = case.opened()
    seen: list[object] = [must_answer("current_version", lambda: provider.current_version(soon())) for _ in range(2)]
    for version in seen:
        if version is None:
            continue
        if not isinstance(version, str) or len(version) > MAX_VERSION or not all("!" <= one <= "~" for one in version):
            raise Broken(f"None or a str of up to {MAX_VERSION} printable ASCII characters", repr(version)[:100])
        if case.capabilities.has_versions == (version == ""):
            raise Broken(f"a version that agrees with has_versions={case.capabilities.has_versions}", repr(version))
    if len(set(seen)) != 1:
        raise Broken("the same version twice, as nothing was rotated", f"{seen[0]!r}, then {seen[1]!r}")


@BOOK.rule(
    51,
    Tier.BRONZE,
    "A wrap without a wanted version names the current one.",
    why="key_id is made of the versions that wraps name. If they disagree with what is current, the API server finds "
    "its own fresh objects stale, and rewrites them for ever.",
    fix="Take the version from the answer of the KMS.",
    unwraps=False,
)
def wrap_names_its_version(case: Case) -> None:
    provider = case.opened()
    current = must_answer("current_version", lambda: provider.current_version(soon()))
    made = wrapped(provider, new_kek(), new_context())
    if current is not None and made.version != current:
        raise Broken(f"the version {current!r}, which is current", repr(made.version))
    if (made.version == "") == case.capabilities.has_versions:
        raise Broken(f"a version that agrees with has_versions={case.capabilities.has_versions}", repr(made.version))


@BOOK.rule(
    52,
    Tier.BRONZE,
    "A wrap under the current version, asked for by name, uses it and says so.",
    why="The host always asks for an explicit version once it knows one, so without this there is no write key.",
    fix="Pass `version` to the KMS.",
)
def wrap_obeys(case: Case) -> None:
    provider, kek, context = case.opened(), new_kek(), new_context()
    version = wrapped(provider, new_kek(), new_context()).version
    made = wrapped(provider, kek, context, version)
    if made.version != version:
        raise Broken(f"the version {version!r}, which was asked for", repr(made.version))
    unwraps(provider, made, kek, context)


@BOOK.rule(
    53,
    Tier.BRONZE,
    "A wrap under a version that does not exist is refused, or names the version that it really used.",
    why="A wrap that claims a version that did not make it is found by nobody until that version is destroyed.",
    fix="Never copy the version that was asked for into the answer.",
    needs="capabilities.has_versions",
    unwraps=False,
)
def wrap_does_not_claim(case: Case) -> None:
    needs_capability(case, "has_versions")
    provider, kek, context = case.opened(), new_kek(), new_context()
    current = wrapped(provider, new_kek(), new_context()).version
    wanted = "987654" if current != "987654" else "987653"
    done = attempt(lambda: provider.wrap(kek, context, wanted, soon()))
    if done.error is None and done.answer.version == wanted:
        raise Broken(f"version {wanted} to be refused: it does not exist", f"a wrap that claims version {wanted}")
    if done.error is not None and not isinstance(done.error, ProviderError):
        raise Broken("a class of keystead.errors, such as KeyNotFound", str(done))


@BOOK.rule(
    54,
    Tier.BRONZE,
    "An unwrap that names another version gives the right key or is refused, and never a wrong key.",
    why="See KS-R030.",
    fix="Hold the version against what the blob says, or let the KMS find it.",
    needs="capabilities.has_versions",
)
def unwrap_of_another_version(case: Case) -> None:
    needs_capability(case, "has_versions")
    provider, kek, context = case.opened(), new_kek(), new_context()
    made = wrapped(provider, kek, context)
    for version in ("987654", "", "not-a-version"):
        done = attempt(lambda version=version: provider.unwrap(made.blob, context, version, soon()))  # type: ignore[misc]
        if done.error is None and is_key(done.answer, kek):
            continue
        if not isinstance(done.error, InvalidCiphertext | KeyNotFound | KeyDisabled):
            raise Broken(f"unwrap with version {version!r} gives the right key or raises InvalidCiphertext", str(done))


@BOOK.rule(
    55,
    Tier.GOLD,
    "After a rotation the new version is current and wraps, and what the old one wrapped still unwraps.",
    why="A rotation that is not noticed never takes effect; one after which old wraps do not open loses Secrets.",
    fix="Look the current version up at every call. Let unwrap find the version by the blob or by `version`.",
    needs="Sandbox.rotate",
)
def rotation(case: Case) -> None:
    needs_capability(case, "has_versions")
    provider, kek, context = case.opened(), new_kek(), new_context()
    must_answer("current_version", lambda: provider.current_version(soon()))
    before = wrapped(provider, kek, context)
    case.sandbox.rotate()
    unwraps(provider, before, kek, context, "unwrap of what the old version wrapped")
    current = must_answer("current_version", lambda: provider.current_version(soon()))
    if current == before.version:
        raise Broken("another current version after the rotation", repr(current))
    after = wrapped(provider, kek, context, current)
    if after.version == before.version:
        raise Broken("a wrap by the new version", f"one by {after.version!r}")
    unwraps(provider, after, kek, context, "unwrap of what the new version wrapped")
    unwraps(case.opened(), before, kek, context, "unwrap of what the old version wrapped, after a restart")


@BOOK.rule(
    56,
    Tier.GOLD,
    "A rotation between `current_version` and `wrap` leads to no wrap that names a version that did not make it.",
    why="The key_id would name a version that the wrap does not have. When that version is destroyed, a Secret thought "
    "safe is lost; when the other one is, too.",
    fix="Pass the version to the KMS, and take the one in the answer.",
    needs="Sandbox.rotate and Sandbox.version_disabled",
)
def rotation_in_between(case: Case) -> None:
    needs_capability(case, "has_versions")
    provider, kek, context = case.opened(), new_kek(), new_context()
    wanted = wrapped(provider, new_kek(), new_context()).version
    case.sandbox.rotate()
    done = attempt(lambda: provider.wrap(kek, context, wanted, soon()))
    if done.error is not None:
        if not isinstance(done.error, ProviderError):
            raise Broken(f"a wrap, or a class of keystead.errors, for the version {wanted!r}", str(done))
        return
    made = done.answer
    unwraps(provider, made, kek, context)
    with case.sandbox.version_disabled(made.version):
        must_refuse(
            f"unwrap while {made.version!r}, which the wrap names, is disabled",
            lambda: provider.unwrap(made.blob, context, made.version, soon()),
            KeyDisabled,
            KeyNotFound,
        )


@BOOK.rule(
    57,
    Tier.GOLD,
    "While an old version is disabled, what it wrapped is refused as KeyDisabled, and the new version works.",
    why="The operator must learn that enabling a version brings the data back, and not believe them damaged: only "
    "that keeps him from deleting Secrets.",
    fix="Map what the SDK raises for a disabled version to KeyDisabled, and say in the message which version it is.",
    needs="Sandbox.rotate and Sandbox.version_disabled",
)
def old_version_disabled(case: Case) -> None:
    needs_capability(case, "has_versions")
    provider, kek, context = case.opened(), new_kek(), new_context()
    old = wrapped(provider, kek, context)
    case.sandbox.rotate()
    new = wrapped(provider, kek, context)
    with case.sandbox.version_disabled(old.version):
        must_refuse(
            f"unwrap while version {old.version!r} is disabled",
            lambda: provider.unwrap(old.blob, context, old.version, soon()),
            KeyDisabled,
        )
        unwraps(provider, new, kek, context, "unwrap under the version that is not disabled")
    unwraps(provider, old, kek, context, "unwrap once the version is enabled again")
