"""The garbage collector's policy: Python's cycle collector traverses young objects, never the keyspace.

1. The module owns the settings of the `gc` module in a serving process. It does not know what the objects are.
2. While there are more than MANY_KEYS keys, any value that is not a string, or YOUNG_OBJECTS new objects (those of
   thousands of clients, or of a transaction), all existing objects are made permanent (`gc.freeze`, which takes a
   microsecond). This happens ten times a second, each time after a collection of the objects that are new. Otherwise
   the collector works as usual.
3. A frozen object that becomes part of an unreachable cycle is never freed. So a long-lived object must break its
   cycles when it ends. A connection does so, and the engine removes the traceback from the errors that it returns;
   `test_gc_policy.py` looks for other cycles.

The reason: reference counts free nearly all objects, and the collector frees only cycles. To find them it traverses
each container, and the keyspace has some of the longest: the key order, the list of keys for each second of deadlines,
and each value that is not a string. A traversal costs 20 ms a million keys, or 100 ms if the keys are in random order
in memory. Each full collection made one: a pipeline of a million GETs had eight. A frozen list may still grow.

(Refused: to switch the collector off, or thresholds so high that it never runs: no cycle is freed. Tuples in place of
lists: the collector stops tracking them by itself, but they cannot grow.)
"""

from __future__ import annotations

import gc

MANY_KEYS = 20_000  # to traverse fewer takes a millisecond or two
YOUNG_OBJECTS = 20_000  # instead of Python's 700, which one receive of short requests exceeds


def begin() -> None:
    """Freeze all objects that exist, and turn the collector on. Due before the first client is served."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def keep_off(keys: int, has_containers: bool = False) -> None:
    """Collect the new objects and freeze the rest if there are many keys or objects, or any container.

    Due ten times a second.
    """
    has_run = any(gc.get_count()[1:])  # by itself, because of the number of new objects
    if keys > MANY_KEYS or has_containers or has_run:
        gc.collect()
        gc.freeze()


def hide() -> None:
    """Freeze all objects that exist. Due after the copy of a large value, which later collections would traverse."""
    gc.freeze()


def collect_young() -> None:
    """Collect the objects of one slice of work while they are few: the collector then stops tracking tuples of keys."""
    gc.collect(0)
