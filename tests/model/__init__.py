"""Exhaustive models of how keys change in a cluster. `python -m tests.model` prints what they find."""
