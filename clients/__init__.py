"""Flower client side: NumPyClients that train weight-sparse networks, and ClientApps of them."""

if __name__ != "fedcircuit.clients":
    raise ImportError(
        f"this package is fedcircuit.clients, it was imported as {__name__!r}; "
        "write 'from fedcircuit.clients import ...'"
    )
