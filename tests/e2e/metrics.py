"""Sums over what a program serves at /metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples of a metric that carry these labels; 0 if there is none."""
    lines = [line for line in text.splitlines() if line.startswith(name)]
    samples = (s for family in text_string_to_metric_families("\n".join(lines) + "\n") for s in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
