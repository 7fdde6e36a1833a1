"""How well each number of phases predicts counts that it was not fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bayesunmix.core.errors import InputError
from bayesunmix.plot.style import INK, hide_frame, panel_figure, styled

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_WIDTH_MM, _HEIGHT_MM = 116.0, 61.0


@styled
def phase_number_figure(result: Result) -> Figure:
    """Draw the held-out score of each number of phases relative to the best, with its standard error.

    Parameters
    ----------
    result
        The result of a run with ``phases = "auto"``.

    Returns
    -------
    Figure
        116 mm wide; the axis is linear near the best and logarithmic far below it.

    Raises
    ------
    InputError
        If the number of phases was declared.
    """
    number = result.record.phase_number
    if number is None:
        raise InputError("phases", 'be "auto" for a curve over the number of phases', "was declared")
    count, score, error = np.array([(row.k, row.score, row.se) for row in number.curve], dtype=np.float64).T
    figure, (axes,) = panel_figure(_HEIGHT_MM, _WIDTH_MM)
    axes.set_yscale("symlog", linthresh=max(10.0, float(error[score > -1e3].max(initial=0.0))))
    axes.axhline(0.0, color=INK, linewidth=0.5)
    axes.errorbar(count, score, error, fmt="o-", color=INK, markersize=3.0, linewidth=0.8, capsize=2.0)
    chosen = count == number.chosen
    axes.plot(count[chosen], score[chosen], "o", color="white", markeredgecolor=INK, markersize=8.0, zorder=0)
    axes.set_xticks(count)
    axes.set_xlabel("number of phases")
    axes.set_ylabel("held-out log score")
    hide_frame(axes, "top", "right")
    return figure
