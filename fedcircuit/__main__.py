"""``python -m fedcircuit`` is the command line."""

from fedcircuit.app.cli import main

main()
