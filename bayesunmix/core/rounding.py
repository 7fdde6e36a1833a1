"""Numbers as a reader wants them: no more digits than the interval supports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# The last digit written stands for at most this share of the distance from the value to the nearer end.
_LAST_DIGIT = 0.5
# Beyond this many decimals a power of ten reads better.
_MAX_DECIMALS = 6
# An end of an interval that is so many times its value is known by its size alone.
_FAR = 1e4
# Less than this share of something is hardly any of it.
_HARDLY = 5e-3
# Elements from this atom fraction on say what a phase is, so many at most.
_MAIN, _MOST_NAMED = 0.02, 4


def round_to_uncertainty(value: float, lower: float, upper: float) -> tuple[str, str, str]:
    """Write a value and its interval with the digits that the interval supports.

    The last digit stands for at most half the distance from the value to the nearer end. A number that is not zero
    never becomes zero: one that is far smaller than that digit is written by its size alone.

    Parameters
    ----------
    value, lower, upper
        A value and the ends of its interval, in one unit.

    Returns
    -------
    tuple of str
        Value, lower and upper end, with the same number of decimals but for one that is far smaller.

    Examples
    --------
    >>> round_to_uncertainty(41.2187, 40.8761, 41.5613)
    ('41.2', '40.9', '41.6')
    >>> round_to_uncertainty(224.8, 172.3, 306.1)
    ('220', '170', '310')
    >>> round_to_uncertainty(4.359, 0.003, 6.854)
    ('4', '0.003', '7')
    """
    numbers = (value, lower, upper)
    if not all(math.isfinite(number) for number in numbers):
        return _plain(value), _plain(lower), _plain(upper)
    sides = [side for side in (value - lower, upper - value) if side > 0.0]
    step = min(sides) * _LAST_DIGIT if sides else abs(value) / 100.0 or 1.0
    # The value itself keeps a digit, however wide its interval is.
    exponent = math.floor(math.log10(min(step, abs(value) or step)))

    def written(number: float) -> str:
        if abs(number) >= _FAR * max(abs(value), step):
            return f"{number:.2g}"
        return f"{number:.1g}" if 0.0 < abs(number) < 0.5 * 10.0**exponent else _at(number, exponent)

    first, second, third = map(written, numbers)
    return first, second, third


def interval_text(value: float, lower: float, upper: float, unit: str = "") -> str:
    """Write ``value [lower, upper] unit``.

    Examples
    --------
    >>> interval_text(0.01912, 0.0151, 0.0234, "at%")
    '0.019 [0.015, 0.023] at%'
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return f"{_plain(value)}{_with_space(unit)}"
    middle, low, high = round_to_uncertainty(value, lower, upper)
    return f"{middle} [{low}, {high}]{_with_space(unit)}"


def bound_text(bound: float, sign: str = "<", unit: str = "") -> str:
    """Write ``< bound unit`` with two digits, rounded away from the value so that the statement stays true.

    Examples
    --------
    >>> bound_text(0.01231, unit="at%"), bound_text(3.19, ">")
    ('< 0.013 at%', '> 3.1')
    """
    if not math.isfinite(bound) or bound <= 0.0:
        return f"{sign} {_plain(bound)}{_with_space(unit)}"
    exponent = math.floor(math.log10(bound)) - 1
    # The slack keeps a bound that has two digits already from moving up by one in its last place.
    digits = bound / 10.0**exponent
    whole = math.ceil(digits - 1e-9) if sign == "<" else math.floor(digits + 1e-9)
    return f"{sign} {_at(whole * 10.0**exponent, exponent)}{_with_space(unit)}"


def composition_text(row: Any, unit: str = "") -> str:  # noqa: ANN401 - a row of a table, whose names are the columns
    """Write a row of the composition table: an interval, a bound, "declared absent", or a dash without an amount.

    Parameters
    ----------
    row
        Named tuple with the columns of ``composition.csv``, in any unit; atom fractions are written in atom percent.
    unit
        Written behind the number, e.g. ``at%``.
    """
    factor = 100.0 if row.unit == "at_frac" else 1.0
    if row.detected == "declared_absent":
        return "declared absent"
    if not math.isfinite(row.mean):
        return "–"
    if row.detected == "false":
        bound = factor * row.upper_bound
        return bound_text(bound, unit=unit) if math.isfinite(bound) else "not detected"
    return interval_text(factor * row.mean, factor * row.lower, factor * row.upper, unit)


def partition_text(row: Any) -> str:  # noqa: ANN401
    """Write a row of the partition table: an interval, a value, a bound, or a dash where there is no ratio.

    Parameters
    ----------
    row
        Named tuple with the columns of ``partition.csv``; None where the table has no such row.
    """
    if row is None or row.kind not in ("interval", "point", "upper", "lower"):
        return "–"
    if row.kind in ("interval", "point"):
        return interval_text(row.median, row.lower, row.upper)
    bound = row.upper if row.kind == "upper" else row.lower
    if not (math.isfinite(bound) and bound > 0.0):
        return "–"
    return bound_text(bound, "<" if row.kind == "upper" else ">")


def odds_text(nats: float) -> str:
    """Write the odds of something whose log probability is lower by so many nats, as ``1 to exp(nats)``.

    Examples
    --------
    >>> odds_text(0.8), odds_text(7.2), odds_text(43.0)
    ('1 to 2.2', '1 to 1,300', '1 to 10^19')
    """
    if nats >= math.log(1e5):
        return f"1 to 10^{nats / math.log(10.0):.0f}" if math.isfinite(nats) else "none"
    return f"1 to {_two_digits(math.exp(max(nats, 0.0)))}"


def times_text(factor: float) -> str:
    """Write how many times something is something else, with two digits and without a power of ten.

    Examples
    --------
    >>> times_text(0.054), times_text(118.0), times_text(0.0)
    ('0.054 times', '120 times', 'hardly any')
    """
    return f"{_two_digits(factor)} times" if factor >= _HARDLY else "hardly any"


def _two_digits(number: float) -> str:
    """Write a number with two digits, and whatever zeros come behind them."""
    return f"{float(f'{number:.2g}'):,.12g}"


def _at(number: float, exponent: int) -> str:
    """Write a number rounded to a multiple of ten to the power of `exponent`."""
    if exponent < -_MAX_DECIMALS and number != 0.0:
        digits = max(math.floor(math.log10(abs(number))) - exponent, 0)
        return f"{number:.{digits}e}"
    return f"{round(number, -exponent):.{max(-exponent, 0)}f}"


def _plain(number: float) -> str:
    return f"{number:.3g}" if math.isfinite(number) else "–"


def _with_space(unit: str) -> str:
    return f" {unit}" if unit else ""


def percent_text(share: float) -> str:
    """Write a share in per cent with two digits, from a hundred on without a power of ten.

    Examples
    --------
    >>> percent_text(0.0123), percent_text(0.996), percent_text(1.34)
    ('1.2', '100', '134')
    """
    percent = 100.0 * share
    return f"{percent:.2g}" if percent < 99.5 else f"{percent:.0f}"


def main_elements_text(composition: Mapping[str, float]) -> str:
    """Name the main elements of a composition in atom fractions; they stay together at the end of a line.

    Examples
    --------
    >>> main_elements_text({"Mg": 0.104, "Si": 0.892, "U": 0.004}).replace(chr(160), " ")
    'Si 89 Mg 10 at%'
    """
    main = sorted(composition.items(), key=lambda pair: -pair[1])
    named = [f"{element}\u00a0{percent_text(value)}" for element, value in main if value >= _MAIN]
    return "\u00a0".join(named[:_MOST_NAMED]) + "\u00a0at%" if named else "no declared element"
