"""What a test grants a machine that others use too."""

from __future__ import annotations

LATE = 2.0
"""Seconds after a deadline within which its end is noticed. What an SDK does by itself takes ten and more."""
AT_ONCE = 4.0
"""Seconds within which something happens that waits for nothing. The deadlines of these tests are longer."""
