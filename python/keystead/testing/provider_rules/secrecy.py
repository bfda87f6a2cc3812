"""KS-R090 to 099: nothing secret in logs, messages and descriptions of objects; a release that can be checked."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from keystead.errors import ProviderError
from keystead.provider import Provider
from keystead.testing.case import Attempt, Case, attempt, new_context, soon
from keystead.testing.provider_rules.book import BOOK
from keystead.testing.rules import Broken, NotShown, Tier

_WHY = (
    "Logs and messages go to places that many may read and that are kept for years: the log of the API server, a "
    "ticket, a vendor's support. One local KEK there opens every Secret of a backup."
)


@BOOK.rule(
    90,
    Tier.SILVER,
    "With the root logger at DEBUG, neither a key nor a secret of the sandbox is logged or printed.",
    why=_WHY,
    fix="Log nothing. If the SDK logs bodies or headers at DEBUG, give its loggers a higher level.",
    unwraps=False,
)
def logs_are_clean(case: Case) -> None:
    forms = _forms(case, canary := os.urandom(32))
    with _everything_written() as written:
        _exercise(case, canary)
    _must_not_show(written.getvalue(), forms, "a log line or output")


@BOOK.rule(
    91,
    Tier.SILVER,
    "No error shows a key, a blob or a secret of the sandbox: not in its text, nor in its arguments.",
    why=_WHY,
    fix="Say what was tried and what the remote answered; of an SDK's text take only what you know.",
    unwraps=False,
)
def errors_are_clean(case: Case) -> None:
    canary = os.urandom(32)
    errors = _exercise(case, canary)
    if not errors:
        raise NotShown("no call of this provider could be made to fail")
    for error in errors:
        text = f"{error} {error!r} {error.args!r} {getattr(error, '__notes__', '')}"
        _must_not_show(text, _forms(case, canary), f"the text of {type(error).__name__}")


@BOOK.rule(
    92,
    Tier.SILVER,
    "Neither the instance nor its configuration shows a secret of the sandbox when it is printed.",
    why=_WHY,
    fix="Keep secrets in objects whose repr does not show them; a dataclass needs `field(repr=False)`.",
    needs="Sandbox.secrets",
    unwraps=False,
)
def descriptions_are_clean(case: Case) -> None:
    if not case.sandbox.secrets():
        raise NotShown("the sandbox names no secrets: override Sandbox.secrets")
    provider = case.opened()
    inside = " ".join(repr(one) for one in vars(provider).values())
    text = f"{provider!r} {provider} {provider.config!r} {inside}"
    _must_not_show(text, {one.encode(): "a secret of the sandbox" for one in case.sandbox.secrets()}, "a repr")


@BOOK.rule(
    95,
    Tier.GOLD,
    "Releases are signed, and the quality file says how to check that.",
    why="An adapter runs in the control plane and sees every key; whoever replaces the package reads every Secret.",
    fix='Sign what you publish, and write into quality.yaml: `signed: "..."`, with the command that checks it.',
    needs="`signed` in the quality file",
    unwraps=False,
)
def releases_are_signed(case: Case) -> None:
    if not case.quality.signed.strip():
        raise NotShown("the quality file does not say how releases are `signed`")


def _exercise(case: Case, canary: bytes) -> list[ProviderError]:
    """Use a provider in good and in bad ways, with a key that can be recognised, and return what it raised."""
    provider, context = case.new(), new_context()
    done = [attempt(lambda: provider.open(soon()))]
    wrap = attempt(lambda: provider.wrap(canary, context, None, soon()))
    done.append(wrap)
    if wrap.error is None:
        done += _bad_calls(provider, canary, wrap)
        with contextlib.suppress(NotShown), case.proxy().garbage():
            done.append(attempt(lambda: provider.wrap(canary, context, None, soon(2))))
            done.append(attempt(lambda: provider.unwrap(wrap.answer.blob, context, wrap.answer.version, soon(2))))
        for fault in (case.sandbox.access_denied, case.sandbox.credentials_expired, case.sandbox.out_of_order):
            with contextlib.suppress(NotShown), fault():
                done.append(attempt(lambda: provider.wrap(canary, context, None, soon())))
                done.append(attempt(lambda: provider.unwrap(wrap.answer.blob, context, wrap.answer.version, soon())))
        done.append(attempt(lambda: provider.unwrap(wrap.answer.blob, context, wrap.answer.version, soon())))
    done.append(attempt(provider.close))
    return [one.error for one in done if isinstance(one.error, ProviderError)]


def _bad_calls(provider: Provider[Any], canary: bytes, wrap: Attempt) -> list[Attempt]:
    made, context = wrap.answer, new_context()
    flipped = made.blob[:-1] + bytes([made.blob[-1] ^ 1])
    return [
        attempt(lambda: provider.unwrap(flipped, context, made.version, soon())),
        attempt(lambda: provider.unwrap(canary, context, made.version, soon())),
        attempt(lambda: provider.unwrap(made.blob, context, "987654", soon())),
        attempt(lambda: provider.wrap(canary, context, "987654", soon())),
        attempt(lambda: provider.wrap(canary, context, None, soon(-1))),
    ]


def _forms(case: Case, canary: bytes) -> dict[bytes, str]:
    """What must not be seen, in each form that it may take, and what to call it."""
    forms = {
        canary: "the key",
        canary.hex().encode(): "the key, in hexadecimal",
        base64.b64encode(canary)[:40]: "the key, in base64",
        base64.urlsafe_b64encode(canary)[:40]: "the key, in base64",
        repr(canary)[2:-1].encode(): "the key, as Python writes it",
    }
    forms |= {secret.encode(): "a secret of the sandbox" for secret in case.sandbox.secrets() if secret}
    return forms


def _must_not_show(text: str, forms: dict[bytes, str], where: str) -> None:
    seen = text.encode("utf-8", "surrogateescape")
    lower = seen.lower()
    for form, name in forms.items():
        if form in seen or (name.endswith("hexadecimal") and form in lower):
            raise Broken(f"{where} without secrets", f"{name}, in {where}")


@contextlib.contextmanager
def _everything_written() -> Iterator[io.StringIO]:
    """Collect what a process whose root logger is at DEBUG writes, and what goes to standard output and error.

    A logger that has a level of its own keeps it: that is how an adapter silences its SDK.
    """
    written = io.StringIO()
    root = logging.getLogger()
    before = root.level, root.handlers, root.manager.disable
    root.handlers = [logging.StreamHandler(written)]
    root.setLevel(logging.DEBUG)
    logging.disable(logging.NOTSET)
    try:
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written), warnings.catch_warnings():
            warnings.simplefilter("always")
            yield written
    finally:
        level, root.handlers, disabled = before
        root.setLevel(level)
        logging.disable(disabled)
