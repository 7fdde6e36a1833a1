"""What callers of a figure may choose: a window of energies, phases, and the scale of an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bayesunmix.core.errors import InputError, check_choice, check_number, shown

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

Window = tuple[float, float]
SCALES = ("log", "linear")


def checked_window(field: str, window: object, whole: Window) -> Window:
    """Return a window of energies within the fitted ones.

    Raises
    ------
    InputError
        If it is none.
    """
    if window is None:
        return whole
    must = f"be two energies in keV, the lower first, within {whole[0]:.3g} to {whole[1]:.3g}"
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise InputError(field, must, f"is {shown(window)}")
    low, high = (check_number(field, value) for value in window)
    if not (low < high and low < whole[1] and high > whole[0]):
        raise InputError(field, must, f"is {shown(window)}")
    return max(low, whole[0]), min(high, whole[1])


def chosen_phases(result: Result, phases: object, known: Sequence[str] | None = None) -> list[str]:
    """Return the phases that are drawn, all of them by default, in the order asked for.

    Parameters
    ----------
    result
        The result of a run.
    phases
        Names, or one.
    known
        Those that can be drawn, where they are not all.

    Raises
    ------
    InputError
        If one is none of these, or there is none.
    """
    names = list(result.phases if known is None else known)
    if phases is None:
        return names
    if isinstance(phases, str):
        return [check_choice("phases", phases, names)]
    if not isinstance(phases, Sequence) or not phases:
        raise InputError("phases", f"be among {', '.join(names)}", f"is {shown(phases)}")
    return list(dict.fromkeys(check_choice("phases", phase, names) for phase in phases))
