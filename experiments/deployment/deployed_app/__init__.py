"""Clients keep their data and find circuits on it; a server without data compares them."""
