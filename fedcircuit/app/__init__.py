"""Configuration, engines and the command line."""
