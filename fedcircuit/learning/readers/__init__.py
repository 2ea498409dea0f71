"""Readers of data in files: each hands over what it found, nothing is guessed."""
