"""What all tables of cases stand on: no row is passed over, and a failure names its rows."""

from __future__ import annotations

import inspect

import pytest
from instances import Bench
from tables import for_each


def test_each_row_is_tried_and_all_that_fail_are_named() -> None:
    tried = []

    @for_each("is_late", [False, True])
    @for_each(("number", "text"), [(1, "a"), (2, "b"), (3, "c")])
    def check(number: int, text: str, is_late: bool) -> None:
        tried.append((number, text, is_late))
        assert number != 2
        if number == 3 and is_late:
            pytest.fail("late")

    with pytest.raises(AssertionError, match=r"(?s)2 of 2 rows fail:\nFalse: 1 of 3.*\nTrue: 2 of 3") as raised:
        check()
    assert "2, 'b': assert 2 != 2" in str(raised.value.__cause__)
    assert tried == [(n, t, late) for late in (False, True) for n, t in ((1, "a"), (2, "b"), (3, "c"))]


def test_the_fixtures_of_a_table_are_those_that_no_row_gives_and_each_row_has_a_bench_of_its_own() -> None:
    benches = []

    @for_each("row", [1, 2])
    def check(bench: Bench, row: int) -> None:
        benches.append(bench)

    assert [*inspect.signature(check).parameters] == ["bench"]
    check(bench=Bench())
    assert benches[0] is not benches[1]


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(AssertionError):
        for_each("row", [])
