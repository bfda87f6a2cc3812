"""How fast Keystead is, as ratios to an echo server that runs beside it: `make bench` (docs/performance.md)."""
