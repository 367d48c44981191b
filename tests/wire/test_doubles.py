"""The texts of doubles: what is read as one, and how one is printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from wire.doubles import MAX_TEXT_BYTES, format_float, parse_bound, parse_float

INF = float("inf")


@for_each(
    ("number", "form"),
    [(3.0, b"3"), (-0.0, b"-0"), (-0.5, b"-0.5"), (0.1, b"0.1"), (1e15, b"1000000000000000"),
     (1e16, b"10000000000000000"), (12345678901234568.0, b"12345678901234568"), (1e17, b"1e+17"), (1e-5, b"1e-05"),
     (5e-324, b"5e-324"), (INF, b"inf"), (-INF, b"-inf"), (float("nan"), b"nan")],
)  # fmt: skip
def test_a_double_is_written_short(number: float, form: bytes) -> None:
    assert format_float(number) == form


@given(st.floats(allow_nan=False))
def test_a_double_reads_back_as_itself(number: float) -> None:
    assert float(format_float(number)) == number
    assert parse_float(format_float(number)) == parse_bound(format_float(number)) == number


@given(st.floats(allow_nan=False).filter(lambda number: len(f"{number:.15g}") < 15))
def test_a_double_of_few_digits_is_written_as_c_writes_it(number: float) -> None:
    if float(f"{number:.14g}") == number and f"{number:.17g}" == f"{number:.14g}":
        assert format_float(number) == f"{number:.17g}".encode()


@for_each(
    ("text", "number"),
    [(b"3", 3), (b"007", 7), (b"+5", 5), (b"-5.", -5), (b".5", 0.5), (b"1e3", 1000), (b"1E-2", 0.01), (b"0x10", 16),
     (b"-0X1.8p1", -3), (b"0x.8", 0.5), (b"inf", INF), (b"+INFINITY", INF), (b"-Inf", -INF), (b"1e-320", 1e-320),
     (b"0e99999", 0), (b"9" * 300, 1e300), (b"0x0p99999", 0)],
)  # fmt: skip
def test_what_is_a_double_for_c_is_one(text: bytes, number: float) -> None:
    assert parse_float(text) == parse_bound(text) == number


@for_each(
    "text",
    [b"nan", b"-nan", b"abc", b"1_0", b"1e", b"e5", b".", b"-", b"0x", b"0xp1", b"0x1p", b"1 ", b"in", b"infi",
     b"1,5", b"\xef\xbc\x91", b"1\n", b"x" * 100, b"1" * (MAX_TEXT_BYTES + 1)],
)  # fmt: skip
def test_what_is_no_double_for_c_is_none(text: bytes) -> None:
    for parse in (parse_float, parse_bound):
        with pytest.raises(ValueError, match=r"number|long|range"):
            parse(text)


@for_each(
    ("text", "bound"),
    [(b"", 0), (b" 1", 1), (b"1e5000", INF), (b"-1e5000", -INF), (b"1e-5000", 0), (b"0x1p9999", INF),
     (b"1" * 400, INF), (b"2\0x", 2)],
)  # fmt: skip
def test_a_bound_takes_more(text: bytes, bound: float) -> None:
    assert parse_bound(text) == bound
    with pytest.raises(ValueError, match=r"number|long|range"):
        parse_float(text)


@pytest.mark.parametrize("text", [b"1e-5000", b"-1e-400", b"0x1p-9999"])
def test_a_value_too_close_to_zero_is_out_of_range(text: bytes) -> None:
    assert math.copysign(1, parse_bound(text)) == (-1 if text.startswith(b"-") else 1)
    with pytest.raises(ValueError, match="out of range"):
        parse_float(text)
