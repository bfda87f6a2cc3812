"""Run a simulation for longer than a test does: `python -m simulation --help`, with `tests` in PYTHONPATH."""

from __future__ import annotations

import argparse
import logging
import os

import structlog

from simulation import day


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Simulate three nodes by the clock.")
    parser.add_argument("what", choices=("day",))
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    day.main(arguments.hours, arguments.seed)
    os._exit(0)  # threads of endpoints would be waited for


if __name__ == "__main__":
    main()
