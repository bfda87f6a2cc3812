"""Writes the pages that say what the program says of itself: `make reference`."""

from __future__ import annotations

from reference.book import PAGES, ROOT, written


def main() -> None:
    """Write each page anew below its mark."""
    for name in PAGES:
        (ROOT / name).write_text(written(name))
        print(name)


if __name__ == "__main__":
    main()
