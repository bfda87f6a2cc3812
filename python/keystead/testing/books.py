"""Every book of rules. `python -m keystead.testing.books` writes their pages, from the root of a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keystead.testing.rules import RuleBook


def books() -> list[RuleBook[Any]]:
    """Return the rules for providers, and those for plugin sockets."""
    from keystead.testing.plugin_rules import BOOK as PLUGINS
    from keystead.testing.provider_rules import BOOK as PROVIDERS

    return [PROVIDERS, PLUGINS]


def main() -> None:
    from keystead.testing.report import table

    for book in books():
        Path(book.page).write_text(table(book))


if __name__ == "__main__":
    main()
