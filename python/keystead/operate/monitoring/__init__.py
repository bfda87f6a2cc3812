"""Alerts and a dashboard over the metrics of `keystead.server`, as text: `keystead generate alerts|dashboard`."""
