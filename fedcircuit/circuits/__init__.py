"""The core: what a circuit is, how it is found, checked and compared."""
