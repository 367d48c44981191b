"""The parts of `aof.py`: the log's format, its lock, effects, replay, rewrite, and the checks of a log."""
