"""What Python's collector of cycles looks at: what is young, never the keyspace.

It owns the settings of the `gc` module in a serving process, and knows nothing of what the objects are.

Reference counts free nearly all that Godis lets go of. For the rest there is the collector, which walks through each
container that it knows of, and the keyspace is a few of the longest there are: the key order, and a list for each
second in which keys end. A walk through them costs 20 ms a million keys, 100 ms where the keys lie in random order,
and it came with each full collection: a pipeline of a million GETs had eight. A value that is no string is such a
container, too.

So while there are many keys, or values that are no strings, all that is there is told to the collector as permanent
(`gc.freeze`, which takes a microsecond), ten times a second and right after a collection of what has come since. A list
that was hidden when it was short may grow as it likes. What was hidden and becomes a cycle that nobody reaches is never
freed: hence nothing that lives for long may end so. A connection breaks its own cycles, and the engine takes the frames
off the errors that it returns; `test_gc_policy.py` looks for others. With few keys, all of them strings, the
collector works as it always does.

Refused: to switch the collector off, which forgives no cycle at all; thresholds so high that it never comes, the same;
tuples in place of lists, which the collector drops by itself but which cannot grow.
"""

from __future__ import annotations

import gc

MANY_KEYS = 20_000  # to walk through fewer takes a millisecond or two
YOUNG_OBJECTS = 20_000  # of Python's 700, which one receive of short requests exceeds


def begin() -> None:
    """Hide what was loaded; before clients are served."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def keep_off(keys: int, has_containers: bool = False) -> None:
    """Collect what is young, and hide all else if there are many keys, or any container. Due ten times a second."""
    if keys > MANY_KEYS or has_containers:
        gc.collect()
        gc.freeze()


def hide() -> None:
    """Hide all that is there; behind the copy of a large value, which the next collections would walk through."""
    gc.freeze()


def collect_young() -> None:
    """Look at what a slice of work has made, while it is little: the tuples of keys are then known to be harmless."""
    gc.collect(0)
