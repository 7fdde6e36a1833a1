"""Errors and warnings that speak to the user, and the small checks that raise them.

Every complaint about user input names the field, what it must be and what it was, in one line, so that the command
line can print it as it is and a script can read the parts.
"""

from __future__ import annotations

import difflib
import errno
import math
import numbers
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Parts of a complaint are cut to this many letters: a formula of 40 kB, or a million numbers, is still a line.
_LONGEST_VALUE = 80
_LONGEST_PART = 400

HIGHEST_SEED = 2**32 - 1


class InputError(ValueError):
    """User input that cannot be used: which field, what it must be, what it was.

    Parameters
    ----------
    field
        Name of the field as the user knows it, e.g. ``inference.level`` or ``MAP``.
    must
        What the field must do, continuing "must", e.g. ``lie between 0 and 1``.
    got
        What was found, continuing "but", e.g. ``is 95``.
    remedy
        Optional full sentence that says what to do.

    Examples
    --------
    >>> print(InputError("inference.level", "lie between 0 and 1", "is 95", "Give 0.95 for a 95 % interval."))
    `inference.level` must lie between 0 and 1, but is 95. Give 0.95 for a 95 % interval.
    """

    def __init__(self, field: str, must: str, got: str, remedy: str = "") -> None:
        self.field = one_line(field)
        self.must = one_line(must)
        self.got = one_line(got)
        self.remedy = one_line(remedy)
        message = f"`{self.field}` must {self.must}, but {self.got}."
        super().__init__(f"{message} {self.remedy}" if self.remedy else message)

    def about(self, field: str) -> InputError:
        """Return the same complaint about the field by which the user knows it."""
        return InputError(field, self.must, self.got, self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the four parts, so that the error survives a process pool."""
        return type(self), (self.field, self.must, self.got, self.remedy)


@contextmanager
def said_as(fields: Mapping[str, str]) -> Iterator[None]:
    """Let complaints name what the user wrote, the option or the argument behind a field.

    Parameters
    ----------
    fields
        The user's name of each field.
    """
    try:
        yield
    except InputError as error:
        if error.field not in fields:
            raise
        raise error.about(fields[error.field]) from None


class InputErrors(InputError):
    """Several complaints at once, a line each; its parts are those of the first.

    Parameters
    ----------
    errors
        At least one.
    """

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        super().__init__(first.field, first.must, first.got, first.remedy)
        self.args = ("\n".join(str(error) for error in self.errors),)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the complaints, so that the error survives a process pool."""
        return type(self), (self.errors,)


def raise_all(errors: Iterable[InputError]) -> None:
    """Raise the complaints, if there are any: one as it is, several as one error."""
    found = list(errors)
    if found:
        raise found[0] if len(found) == 1 else InputErrors(found)


class BayesUnmixWarning(UserWarning):
    """A recoverable oddity that the user should know about; the result records it too."""


def warn(text: str) -> None:
    """Warn of an oddity, showing the line outside this package from which it was called."""
    # The caller of our outermost frame: dataclasses and decorators lie between our own.
    frame, level, shown_level = sys._getframe(), 1, 2
    while frame.f_back is not None:
        level += 1
        if f"{frame.f_globals.get('__name__', '')}.".startswith("bayesunmix."):
            shown_level = level
        frame = frame.f_back
    warnings.warn(text, BayesUnmixWarning, stacklevel=shown_level)


def failure_text(error: BaseException) -> str:
    """Say in a few words what has failed by an error that the user did not cause."""
    number = error.errno if isinstance(error, OSError) else None
    text = one_line(str(error), 200)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "RESOURCE_EXHAUSTED" in text:
        return "the memory ran out (fewer pixels, channels or draws need less)"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_number(field: str, value: object, *, must: str = "be a finite number", remedy: str = "") -> float:
    """Return `value` as a float, or raise `InputError` if it is not one finite real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not _is_finite(value):
        raise InputError(field, must, f"is {shown(value)}", remedy)
    return float(value)


def _is_finite(value: numbers.Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def check_between(
    field: str, value: object, low: float, high: float, *, inclusive: bool = True, remedy: str = ""
) -> float:
    """Return `value` as a float, or raise `InputError` unless it lies between `low` and `high`."""
    must = f"lie between {low:g} and {high:g}" + ("" if inclusive else " (both excluded)")
    number = check_number(field, value, must=must, remedy=remedy)
    inside = low <= number <= high if inclusive else low < number < high
    if not inside:
        raise InputError(field, must, f"is {shown(value)}", remedy)
    return number


def check_fraction(field: str, value: object, *, inclusive: bool = False, remedy: str = "") -> float:
    """Return `value` as a float, or raise `InputError` unless it lies between 0 and 1 (ends excluded by default)."""
    if inclusive:
        return check_between(field, value, 0.0, 1.0, remedy=remedy)
    must = "lie between 0 and 1"
    number = check_number(field, value, must=must, remedy=remedy)
    if not 0.0 < number < 1.0:
        raise InputError(field, must, f"is {shown(value)}", remedy)
    return number


def check_positive(
    field: str,
    value: object,
    *,
    allow_zero: bool = False,
    remedy: str = "",
    low: float = 0.0,
    high: float = math.inf,
) -> float:
    """Return `value` as a float, or raise `InputError` unless it is positive (or zero, where allowed).

    One that is positive and outside `low` to `high` is refused, too: these are limits of what can be meant.
    """
    must = "be zero or positive" if allow_zero else "be positive"
    number = check_number(field, value, must=must, remedy=remedy)
    if number < 0.0 or (number == 0.0 and not allow_zero):
        raise InputError(field, must, f"is {shown(value)}", remedy)
    if number > 0.0 and not low <= number <= high:
        raise InputError(field, f"lie between {low:g} and {high:g}", f"is {shown(value)}", remedy)
    return number


def check_integer(field: str, value: object, *, low: int | None = None, high: int | None = None) -> int:
    """Return `value` as an int, or raise `InputError` unless it is a whole number from `low` to `high`."""
    must = "be a whole number"
    if low is not None and high is not None:
        must += f" from {low} to {high}"
    elif low is not None:
        must += f" of at least {low}"
    elif high is not None:
        must += f" of at most {high}"
    number = check_number(field, value, must=must)
    whole = int(number)
    if whole != number or (low is not None and whole < low) or (high is not None and whole > high):
        raise InputError(field, must, f"is {shown(value)}")
    return whole


def check_flag(field: str, value: object) -> bool:
    """Return `value` as a bool, or raise `InputError` unless it is one, of Python or NumPy, or a number."""
    # An array has no truth, and that of a text or a list is not what it says.
    if not isinstance(value, int) and type(value).__name__ not in ("bool", "bool_"):
        raise InputError(field, "be true or false", f"is {shown(value)}")
    return bool(value)


def check_text(field: str, value: object) -> str:
    """Return `value`, or raise `InputError` unless it is a text."""
    if not isinstance(value, str):
        raise InputError(field, "be a text", f"is {shown(value)}")
    return value


def check_mapping(field: str, value: object, example: str) -> Mapping[Any, Any]:
    """Return `value`, or raise `InputError` unless it is a dictionary such as `example`."""
    if not isinstance(value, Mapping):
        raise InputError(field, f"be a dictionary such as {example}", f"is {shown(value)}")
    return value


def check_seed(value: object) -> int:
    """Return the seed as an int, or raise `InputError` unless it is a whole number that every generator takes."""
    return check_integer("seed", value, low=0, high=HIGHEST_SEED)


def check_path(field: str, value: object) -> Path:
    """Return `value` as a path, or raise `InputError` if it is not the name of a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(field, "be the name of a file or folder", f"is a {type(value).__name__}")
    if not str(value):
        raise InputError(field, "be the name of a file or folder", "is empty")
    try:
        path = Path(value)
        if b"\0" in os.fsencode(path):  # what no file system can write is refused here, too
            raise ValueError("it holds a zero character")
        # Refuses, on some systems, long names, and what lies in a folder without access.
        path.exists()
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(field, "be the name of a file or folder", f"is {shown(value)}: {reason}") from None
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise InputError(field, "be a folder that can be opened", f'"{path}" is not yours to open')
    return path


def check_choice(field: str, value: object, choices: Iterable[str]) -> str:
    """Return `value`, or raise `InputError` unless it is one of `choices`; a near miss is suggested."""
    allowed = tuple(choices)
    if isinstance(value, str) and value in allowed:
        return value
    listed = ", ".join(f'"{choice}"' for choice in allowed)
    raise InputError(field, f"be one of {listed}", f"is {shown(value)}", suggest(value, allowed))


def unknown_keyword(key: str, known: Iterable[str]) -> InputError:
    """Return the complaint about a keyword that is none of those `known`."""
    names = tuple(known)
    return InputError(key, f"be one of {', '.join(names)}", "is an unknown keyword", suggest(key, names))


def suggest(value: object, choices: Iterable[str]) -> str:
    """Return the sentence ``Did you mean "..."?`` for the nearest of `choices`, or an empty string."""
    if not isinstance(value, str):
        return ""
    near = difflib.get_close_matches(value, list(choices), n=1)
    return f'Did you mean "{near[0]}"?' if near else ""


def shown(value: object) -> str:
    """Show a value in a message: strings quoted, numbers plain, long and unprintable ones as far as they can be shown.

    Examples
    --------
    >>> shown("a b"), shown(0.5), shown([1, 2])
    ('"a b"', '0.5', '[1, 2]')
    """
    try:
        value = str(value) if isinstance(value, Path) else value
        if isinstance(value, str):
            text = f'"{value[: 2 * _LONGEST_VALUE]}"'
        elif isinstance(value, numbers.Real) and not isinstance(value, bool):
            text = f"{value}"
        else:
            text = repr(value)
    except (
        Exception
    ):  # whole numbers of thousands of digits, lists in lists in lists, objects of whatever make
        kind = "a whole number of thousands of digits" if isinstance(value, int) else type(value).__name__
        text = f"{kind} that cannot be shown"
    return one_line(text, _LONGEST_VALUE)


def one_line(text: str, longest: int = _LONGEST_PART) -> str:
    """Put a text on one line: white space is a blank, what cannot be printed is escaped, what is too long is cut."""
    # Cut before as well: escaping megabytes takes long.
    words = " ".join(str(text)[: 4 * longest].split())
    if not words.isprintable():
        words = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in words
        )
    return words if len(words) <= longest else words[: longest - 3] + "..."
