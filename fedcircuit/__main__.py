"""``python -m fedcircuit`` is the command line."""

from fedcircuit.app.commands import main

main()
