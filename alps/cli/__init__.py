"""The command line, and the one package that knows Hydra."""
