"""Writes docs/faults.md: what was measured, in words and tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from faults.expected import FAULTS, HEALTHY, LEADER_KILLED, PROVIDERS
from faults.measure import AT_LEAST, COLD, Call, Measured, longest, p50

PAGE = Path(__file__).parents[2] / "docs/faults.md"
HINT = "[temporary, nothing is lost: do not delete objects]"
WIDTH = 120
HEAD = [
    "what is wrong",
    "Decrypt that needs the remote",
    "it takes, ms",
    "Decrypt from memory, ms",
    "Status, ms",
    "back after, s",
    "`keystead_cold_decrypt_seconds`",
    "`unwrap`",
]
INTRODUCTION = f"""# Faults of a remote KMS

What each fault looks like to you. `make faults` measures all of it anew and writes this page: one `keystead serve` with
an endpoint for each provider; behind `vault-transit` a real OpenBao, behind `aws-kms` and `gcp-kms` the project's fakes
of AWS and Cloud KMS, over real connections to Amazon's and Google's own libraries. None of it was seen at Amazon or
Google.

During each fault {COLD} Decrypts that need the remote are called at once, each for another local KEK, as after a
restart of kube-apiserver; and beside them, all the time, Status and Decrypts of what is in memory, {AT_LEAST} or more
of each. Times are the median and the longest, in milliseconds, on a machine with two busy cores: compare them with the
row `none`.

- **Status and Decrypts from memory do not notice.** They answered `OK` each time, and Status said `ok`. If a fault
  lasts, a key that is merely away turns what Status says red after `health.grace`, one hour; a key that denies, is
  disabled or is not found, after three probes. Its code stays `OK`. See [errors](errors.md#what-status-says).
- **No call takes longer than 2.6 s**, whatever the remote does; kube-apiserver gives up after 3 s. The unwrap goes on
  for up to `unwrapTimeout`, 10 s, so that the next try of kube-apiserver finds its result.
- **One remote's fault is not another's.** Meanwhile each of the other endpoints was asked for a Decrypt that needs its
  own remote, and answered.
- **It heals by itself.** *Back after* is the time from the repair to the first Decrypt that needs the remote and
  succeeds. Nothing was restarted.

The last two columns are the label `result` of `keystead_cold_decrypt_seconds` and, for the operation `unwrap`, of
`keystead_provider_request_duration_seconds`. The second counts attempts: what may pass is tried once more after a tenth
of a second, if there is time, and a `Retry-After` is not waited for. What each class means and what to do is in
[errors](errors.md#by-class).

Of texts, addresses, ids and directories are left out here, and the end of those that will pass,
`{HINT}`.
"""
NOTES = {
    "aws-kms": "A key of AWS KMS cannot be made anew under its name, and its replicas show no lag to a Decrypt. "
    "*Key destroyed* is one whose deletion is scheduled; after that it is *not found*.",
    "gcp-kms": "Over gRPC there are neither redirects nor `Retry-After`. A version of a key is disabled or destroyed, "
    "never the key, and no name is used twice.",
    "vault-transit": "*Key disabled* is a version below `min_decryption_version`, *key destroyed* a trimmed one. "
    "Keys were restored from a backup of the Transit key. The redirect, `Retry-After`, the internal error, the lag and "
    "the other key came from a fake in OpenBao's place.",
}


def page(measured: Iterable[Measured]) -> str:
    """The whole page, with the providers and faults that were measured."""
    found = {(one.provider, one.fault): one for one in measured}
    parts = [INTRODUCTION]
    for provider in PROVIDERS:
        ours = [found[provider, fault] for fault in (HEALTHY, *FAULTS, LEADER_KILLED) if (provider, fault) in found]
        parts += [f"## {provider}\n\n{textwrap.fill(NOTES[provider], WIDTH)}\n", table(HEAD, map(_row, ours))]
        texts = ((one.fault, "<br>".join(f"`{text}`" for text in _texts(one))) for one in ours if _texts(one))
        parts.append(table(["what is wrong", "what the error says"], texts))
    return "\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(one: Measured) -> list[str]:
    return [
        one.fault,
        ", ".join(sorted({f"`{call.code.name}`" for call in one.cold})),
        _times(one.cold),
        _times(one.hot),
        _times(one.status),
        f"{one.back:.2f}",
        ", ".join(f"`{name}` {count}" for name, count in sorted(one.decrypts.items())),
        ", ".join(f"`{name}` {count}" for name, count in sorted(one.unwraps.items())),
    ]


def _times(calls: list[Call]) -> str:
    median = p50(calls) * 1000
    return (
        f"{median:.1f} / {longest(calls) * 1000:.0f}" if median < 10 else f"{median:.0f} / {longest(calls) * 1000:.0f}"
    )


def _texts(one: Measured) -> list[str]:
    return list(dict.fromkeys(_without_names(call.text) for call in one.cold if call.text))


def _without_names(text: str) -> str:
    """Leave out what is another's or another one each time."""
    text = text.removesuffix(f" {HINT}")
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"/tmp/\S+/", "", text)
    return text.replace("projects/lab-1/locations/europe-west1/keyRings/ring/cryptoKeys/", "…/")
