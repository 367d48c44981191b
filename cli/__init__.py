"""The command line, and the subcommands of `godis.py` that run no server: ping, check, export, import."""
