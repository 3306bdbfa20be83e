"""``python -m horen.cli`` runs the program ``horen``."""

from horen.cli.app import main

main()
