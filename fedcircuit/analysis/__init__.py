"""Measures over several rounds or models that are not circuits themselves."""
