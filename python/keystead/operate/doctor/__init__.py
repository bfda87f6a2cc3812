"""Looks over a node before and while anything depends on it: `keystead doctor`."""
