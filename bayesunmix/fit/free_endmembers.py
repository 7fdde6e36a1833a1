"""Free-form endmembers in a run: fitted without lines, and read by the line model draw by draw.

Each draw of an endmember is regressed on the templates of the components,

    s_kc = sum_i w_ki t_kic + sum_b h_kb q_kbc,     w, h >= 0,

by least squares weighted with the inverse of the Poisson variance, which is proportional to the mean endmember. The
likelihood does not know the lines: what they leave of an endmember shows as misfit of this regression, not of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from bayesunmix.config.methods import Map, Method
from bayesunmix.fit.draws import Draws, thinned
from bayesunmix.fit.free_posterior import FreePosterior, fit_free
from bayesunmix.fit.model_data import Blocks, Task
from bayesunmix.fit.posterior import FittedPosterior, Mode
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start, component_templates
from bayesunmix.inference.map_estimate import MapEstimate
from bayesunmix.models.abundance import AbundancePrior
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.pixels import no_pixels
from bayesunmix.models.thickness import N_COLUMNS
from bayesunmix.models.unmixing import UnmixingData

FloatArray = npt.NDArray[np.float64]

# Share of the mean endmember below which a channel weighs no more than it: empty channels have no variance of 0.
LEAST_VARIANCE = 1e-2
# Amount of a component, relative to all of them, that stands for none.
SMALLEST = 1e-9


@dataclass(frozen=True, kw_only=True)
class FreeFitted(FittedPosterior):
    """A mode of free-form endmembers, with the basis that reads them.

    Attributes
    ----------
    free : FreePosterior
    """

    free: FreePosterior


class FreeForm:
    """Endmembers without physics, as `bayesunmix.fit.endmember_model.EndmemberModel` asks for them."""

    fitted_type = FreeFitted
    line_density = False

    def starts(self, task: Task) -> list[Start]:
        """Return none: `fit` clusters by itself."""
        return []

    def fit(self, task: Task, starts: list[Start], progress: Callable[[str], None]) -> FreeFitted:
        """Find the mode of free-form endmembers and the basis that reads them."""
        blocks = task.blocks
        edges = blocks.forward.edges_keV
        centre = 0.5 * (edges[1:] + edges[:-1])
        position = np.cumsum(np.diff(edges) / task.setup.spectrum.response.fwhm_keV(centre))
        free = fit_free(
            blocks.counts,
            blocks.matrix,
            position,
            blocks.widths.contrast_length_fwhm,
            widths=blocks.widths,
            max_overlap=blocks.overlap.most,
            n_starts=task.n_starts,
            seed=task.seed,
            progress=progress,
        )
        read = read_mode(blocks, free.spectra(free.estimate.z[None, None]), free.data.prior, free.estimate)
        # A fresh copy: the compiled model that reading built cannot be saved.
        own = {entry.name: getattr(read, entry.name) for entry in fields(read)}
        return FreeFitted(**own, free=replace(free))

    def draw(self, fitted: FreeFitted, method: Method, seed: int, progress: Callable[[float], None]) -> Drawn:
        """Draw endmembers by Laplace's approximation, or take the mode, and read them by the line model."""
        free = fitted.free
        if isinstance(method, Map):
            z = free.estimate.z[None, None]
        else:
            z = free.draw(method.chains, method.draws, seed)
        return Drawn(draws=read_spectra(free.spectra(z), fitted.data.basis), statistics={})

    def channel_spectra(self, setup: Setup, fitted: FreeFitted) -> Callable[[Draws], FloatArray]:
        """Return what spreads bins over channels like the sum spectrum."""
        return lambda draws: spread_over_channels(setup, thinned(draws.spectra))


def spread_over_channels(setup: Setup, binned: FloatArray) -> FloatArray:
    """Endmembers (draw, phase, channel) of those of bins: each bin spread over its channels like the sum spectrum."""
    boundaries = setup.blocks.boundaries
    width = np.diff(boundaries)
    total = setup.image.sum_spectrum().astype(float)
    in_bin = np.repeat(np.add.reduceat(total, boundaries[:-1]), width)
    within = np.where(in_bin > 0, total / np.maximum(in_bin, 1.0), np.repeat(1.0 / width, width))
    return np.asarray(np.repeat(binned, width, axis=2) * within)


def read_mode(
    blocks: Blocks, spectra: FloatArray, prior: AbundancePrior, estimate: MapEstimate
) -> FittedPosterior:
    """Read the endmembers of a mode that knows no lines: the compositions that absorb, and the basis that reads draws.

    Parameters
    ----------
    blocks : Blocks
    spectra : (1, 1, phase, energy)
        Endmembers at the mode, unit sum.
    prior : AbundancePrior
        Of the abundances that the mode was found with.
    estimate : MapEstimate
        The mode in its own parameters.
    """
    # The endmembers' own compositions absorb: read once to know them, and again with them.
    basis, yields = blocks.forward.basis(blocks.absorbing, blocks.allowed)
    absorbing = _fractions(read_spectra(spectra, basis), yields)
    basis, yields = blocks.forward.basis(absorbing, blocks.allowed)
    fractions = _fractions(read_spectra(spectra, basis), yields)
    index = np.argwhere(basis.allowed)
    data = UnmixingData(
        pixels=no_pixels(len(prior.mean), basis.family_templates.shape[2] + N_COLUMNS),
        basis=basis,
        prior=prior,
        free=index,
        scale=np.ones(len(index)),
        ratio_family=np.flatnonzero(basis.ratio_sd > 0),
        yields=yields,
        statements=blocks.statements(),
        effect=blocks.effect(),
        widths=blocks.widths,
    )
    modes = (Mode(0.0, same_mode=True, followed=True, atom_fractions=fractions),)
    return FittedPosterior(
        data=data, estimate=estimate, modes=modes, absorbing=absorbing, atom_fractions=fractions
    )


def read_spectra(spectra: FloatArray, basis: EndmemberBasis) -> Draws:
    """Read endmembers by the line model.

    Parameters
    ----------
    spectra : (chain, draw, phase, energy)
        Endmembers, unit sum.
    basis : EndmemberBasis
        Templates; family ratios are nominal.
    """
    lines = component_templates(basis)[:, :-1]
    n_lines = lines.shape[1]
    mean = spectra.mean(axis=(0, 1))
    amounts = np.empty((*spectra.shape[:3], n_lines + basis.continuum_templates.shape[1]))
    for phase, columns in enumerate(np.concatenate([lines, basis.continuum_templates], axis=1)):
        variance = np.maximum(mean[phase], LEAST_VARIANCE * mean[phase].mean())
        design = (columns / np.sqrt(variance)).T
        used = np.r_[basis.allowed[phase, :-1], np.ones(len(columns) - n_lines, bool)]
        amounts[:, :, phase] = 0.0
        for place in np.ndindex(spectra.shape[:2]):
            amounts[*place, phase, used] = nnls(design[:, used], spectra[*place, phase] / np.sqrt(variance))[
                0
            ]
    # Least squares ends at zero exactly; ratios of two phases need a number, as small as it may be.
    least = SMALLEST * amounts.sum(axis=-1, keepdims=True)
    amounts[..., :n_lines] = np.where(basis.allowed[:, :-1], np.maximum(amounts[..., :n_lines], least), 0.0)
    continuum = amounts[..., n_lines:]
    weights = np.concatenate([amounts[..., :n_lines], continuum.sum(axis=-1, keepdims=True)], axis=-1)
    counts = weights[..., basis.family_owner] * basis.family_ratio
    # Free endmembers know no absorption: thickness does not act on them.
    none = np.zeros(spectra.shape[:2])
    return Draws(
        weights=weights,
        family_counts=counts,
        continuum=continuum,
        spectra=spectra,
        absorption_scale=none,
        stray_exponent=none,
        line_shapes=np.zeros((*none.shape, 0)),
    )


def _fractions(draws: Draws, yields: FloatArray) -> FloatArray:
    """Atom fractions of the mean of some draws, with nominal calibration, shape (phase, element)."""
    atoms = draws.weights.mean(axis=(0, 1))[:, : yields.shape[1]] / yields
    return np.asarray(atoms / np.maximum(atoms.sum(axis=1, keepdims=True), 1e-300))
