"""`python -m bench`: measure everything, print tables, and keep the rounds as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import client, cold, hot, report, rest, store

PARTS = ("start", "idle", "hot", "cold", "store")
DEFAULT_OUTPUT = client.ROOT / "build" / "bench" / "results.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="a minute instead of ten: shows that it works, proves little"
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="where to write the JSON")
    arguments = parser.parse_args()
    parts = arguments.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there is {', '.join(PARTS)}")
    try:
        if parts != ["store"]:
            client.build()
    except client.NoGo as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2

    results: dict[str, object] = {"machine": report.machine()}
    _say(", ".join(f"{name}: {value}" for name, value in report.machine().items()))
    # Short, for a socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="ks-bench-") as temporary:
        directory = Path(temporary)
        if "start" in parts:
            start = rest.start(directory, rounds=3 if arguments.quick else 11)
            results["start"] = asdict(start)
            _say(report.start_table(start))
        if "idle" in parts:
            idle = rest.idle(directory, seconds=2 if arguments.quick else 10)
            results["idle"] = {name: asdict(one) for name, one in idle.items()}
            _say(report.idle_table(idle))
        if "hot" in parts:
            rounds, seconds = (3, 0.4) if arguments.quick else (25, 0.6)
            contests = hot.measure(directory, rounds, seconds, _say)
            results["hot"] = [asdict(contest) for contest in contests]
            _say(report.hot_table(contests))
            _say(
                "keystead with the listener that it chooses, against itself with grpcio's standard one\n"
                + report.listener_gain(contests)
            )
            _say("\n".join(report.verdicts(contests)))
        if "cold" in parts:
            flood = cold.flood(directory)
            results["cold"] = asdict(flood)
            _say(report.cold_lines(flood))
        if "store" in parts:
            stores = [
                store.measure(directory, objects, rounds=1 if arguments.quick else 5)
                for objects in ((2_000, 10_000) if arguments.quick else (10_000, 100_000))
            ]
            results["store"] = [asdict(one) for one in stores]
            _say(report.aligned(store.table(stores)))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    _say(f"every round is in {arguments.output}")
    return 0


def _say(text: str) -> None:
    print(text + "\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
