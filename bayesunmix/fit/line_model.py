"""Endmembers made of lines and continuum, as `bayesunmix.fit.endmember_model.EndmemberModel` asks for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from bayesunmix.config.methods import Method
from bayesunmix.core.shares import shares_of
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.draws import Draws, thinned
from bayesunmix.fit.model_data import Task
from bayesunmix.fit.posterior import FittedPosterior, fit_posterior
from bayesunmix.fit.sampling import Drawn, posterior_draws
from bayesunmix.fit.search import CoarseModel
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start, find_starts
from bayesunmix.forward.line_shapes import line_shapes

FloatArray = npt.NDArray[np.float64]

# With many phases a start more often lies in the wrong valley: at least so many for each phase beyond the second.
STARTS_PER_PHASE = 2
# Draws whose lines change shape at a time, each line on every channel.
DRAWS_AT_ONCE = 20


class LineModel:
    """The built-in model (`bayesunmix.models.unmixing`), with every engine."""

    fitted_type = FittedPosterior
    line_density = True

    def __init__(self) -> None:
        # What a search for starts has compiled for the mode on the side; a resumed run has not searched.
        self._coarse: CoarseModel | None = None

    def starts(self, task: Task) -> list[Start]:
        """Search for starting points while the model that compares them is compiled."""
        blocks = task.blocks
        basis, yields = blocks.forward.basis(blocks.absorbing, blocks.allowed)
        with single_thread(), ThreadPoolExecutor(1) as pool:
            coarse = pool.submit(CoarseModel.of, blocks, basis, yields)
            found = find_starts(
                blocks.counts,
                basis,
                yields,
                blocks.statements(),
                blocks.matrix,
                n_starts=max(task.n_starts, STARTS_PER_PHASE * (len(blocks.phases) - 2)),
                seed=task.seed,
            )
            self._coarse = coarse.result()
        return found

    def fit(self, task: Task, starts: list[Start], progress: Callable[[str], None]) -> FittedPosterior:
        """Find the best mode from all starts; see `bayesunmix.fit.posterior.fit_posterior`."""
        coarse, self._coarse = self._coarse, None
        with single_thread():
            return fit_posterior(task.blocks, starts, task.blocks.absorbing, progress, coarse)

    def draw(
        self, fitted: FittedPosterior, method: Method, seed: int, progress: Callable[[float], None]
    ) -> Drawn:
        """Draw by any engine; see `bayesunmix.fit.sampling.posterior_draws`."""
        with single_thread():
            return posterior_draws(fitted, method, seed, progress)

    def channel_spectra(self, setup: Setup, fitted: FittedPosterior) -> Callable[[Draws], FloatArray]:
        """Return what draws lines and continuum on the fitted channels, (draw, phase, channel), of some draws."""
        some = line_spectra(setup, fitted, setup.image.channel_edges_keV)

        def spectra_of(draws: Draws) -> FloatArray:
            parts = [thinned(values) for values in (draws.family_counts, draws.continuum, draws.line_shapes)]
            batches = (slice(i, i + DRAWS_AT_ONCE) for i in range(0, len(parts[0]), DRAWS_AT_ONCE))
            return np.concatenate([some(*(part[batch] for part in parts)) for batch in batches])

        return spectra_of


def line_spectra(
    setup: Setup, fitted: FittedPosterior, edges_keV: FloatArray
) -> Callable[[FloatArray, FloatArray, FloatArray], FloatArray]:
    """Return what draws lines and continuum between any edges inside the fitted energies, unit sum.

    Parameters
    ----------
    setup, fitted
        Of the run.
    edges_keV : (bin + 1,)
        Edges of bins or channels.

    Returns
    -------
    callable
        From counts of the families (draw, phase, family), of the continuum's pieces (draw, phase, knot) and line shapes
        (draw, direction) to spectra (draw, phase, bin).
    """
    forward = setup.forward
    families = forward.family_spectra(fitted.absorbing, edges_keV)
    families = families / np.maximum(
        forward.family_spectra(fitted.absorbing).sum(axis=2, keepdims=True), 1e-300
    )
    pieces = forward.continuum_spectra(fitted.absorbing, edges_keV)
    pieces = shares_of(pieces)
    slopes = line_shapes(forward, setup.spectrum, setup.mean_composition, edges_keV).slopes

    def some(counts: FloatArray, continuum: FloatArray, x: FloatArray) -> FloatArray:
        change = np.tensordot(x, slopes, axes=1)
        by_phase = counts.swapaxes(0, 1) @ families + continuum.swapaxes(0, 1) @ pieces
        return shares_of(np.maximum(by_phase.swapaxes(0, 1) + counts @ change, 0.0))

    return some
