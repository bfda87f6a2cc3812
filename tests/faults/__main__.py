"""Measures every fault of every remote, prints a line for each, and writes docs/faults.md. Takes three minutes."""

from __future__ import annotations

from faults.all import remotes
from faults.check import check
from faults.expected import FAULTS, HEALTHY, PROVIDERS
from faults.leader import measure_dead_leader
from faults.measure import Measured, longest, measure, p50
from faults.page import PAGE, page
from faults.plugin import Plugin
from support.serving import short_directory


def main() -> None:
    """Measure, print, check, and write the page."""
    measured: list[Measured] = []
    with short_directory() as directory:
        with remotes(directory) as every, Plugin(directory / "plugin", list(every.values())).run() as running:
            for provider in PROVIDERS:
                healthy = measure(running, list(every.values()), every[provider], HEALTHY)
                show(healthy)
                measured.append(healthy)
                for fault in (fault for fault, of in FAULTS.items() if provider in of):
                    found = measure(running, list(every.values()), every[provider], fault)
                    show(found)
                    check(found, healthy, others=len(PROVIDERS) - 1)
                    measured.append(found)
        measured.append(measure_dead_leader(directory))
        show(measured[-1])
    PAGE.write_text(page(measured))
    print(f"written to {PAGE}")


def show(one: Measured) -> None:
    """Print the line of one fault."""
    times = "  ".join(
        f"{what} {p50(calls) * 1000:7.1f} / {longest(calls) * 1000:5.0f} ms"
        for what, calls in (("cold", one.cold), ("hot", one.hot), ("Status", one.status))
    )
    codes = ", ".join(sorted({call.code.name for call in one.cold}))
    print(f"{one.provider:14} {one.fault:28} {times}  {codes}: {', '.join(one.decrypts)}", flush=True)


if __name__ == "__main__":
    main()
