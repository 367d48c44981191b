"""The parts of `aof.py`: format, lock, effects, replay, rewrite, checks, export, kept logs, and Redis's files."""
