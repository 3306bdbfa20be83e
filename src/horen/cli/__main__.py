"""``python -m horen.cli`` runs the program ``horen``."""

from horen.cli import main

main()
