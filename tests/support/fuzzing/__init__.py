"""Inputs that nobody thought of, for the parser pair, for logs, for Redis's values, and for a whole server.

A target is a module with one function that judges an input and raises AssertionError when a promise does not hold:

    parsers.check(wire)           one grammar, two parsers: what both say of any bytes, however they are cut
    logs.check(content, work)     a file of any bytes: replay, check and repair agree, and are never wrong in silence
    payloads.check(value)         a value in Redis's form: RESTORE takes it, and DUMP gives it back, or nothing changes
    scripts.play(actions, ...)    what several clients do to a whole server, which must stay up, sound and recoverable

`make fuzz` runs them for long: the first three under atheris (`coverage`), which sees what code an input reaches and
keeps those that reach more; the last with random scripts (`server`), since a process cannot be seen into.
`test_fuzz.py` runs each for a moment, and first every file of tests/corpus/, where each input that once failed is
kept.

Refused: Hypothesis for the long runs. It shrinks well, but finds no more in an hour than in a minute, as it does not
see coverage; and its own format of an input is none that a person could read or another program could use.
"""
