"""A table of cases that is one test: `for_each` is to a test what pytest's `parametrize` is, and costs less.

pytest takes some milliseconds for a test, ten times what a row of most tables takes: each worker finds it, sets it up
and reports it. `parametrize` is for cases that take long, or need fixtures of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import pytest
from instances import Bench

Test = Callable[..., None]
Ids = Callable[[Any], object] | Iterable[str]  # of a value, or those of the rows


def for_each(names: str | Sequence[str], rows: Iterable[Any], ids: Ids = repr) -> Callable[[Test], Test]:
    """Run a test for each row, all in one; a failure names all rows that fail, and shows the first.

    The rows have the fixtures of the test in common, but for `bench`, which each has new.
    """
    given = (names,) if isinstance(names, str) else tuple(names)
    table = [(row,) if isinstance(names, str) else tuple(row) for row in rows]
    ids = [", ".join(str(ids(value))[:200] for value in row) for row in table] if callable(ids) else [*ids]
    assert table, "a table without rows tests nothing"
    assert len(ids) == len(table)

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)

        @wraps(test)
        def run(**fixtures: Any) -> None:
            failed: list[tuple[str, BaseException]] = []
            for name, row in zip(ids, table, strict=True):
                if "bench" in fixtures:
                    fixtures["bench"] = Bench()
                try:
                    test(**fixtures, **dict(zip(given, row, strict=True)))
                except (Exception, pytest.fail.Exception) as error:
                    failed.append((name, error))
            if failed:
                listing = "\n".join(f"{name}: {str(error).partition(chr(10))[0]}" for name, error in failed)
                raise AssertionError(f"{len(failed)} of {len(table)} rows fail:\n{listing}") from failed[0][1]

        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[taken for name, taken in signature.parameters.items() if name not in given]
        )
        del run.__wrapped__
        return run

    return decorate
