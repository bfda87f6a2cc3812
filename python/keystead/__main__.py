"""`python -m keystead` is the command `keystead`."""

from keystead.cli import main

main()
