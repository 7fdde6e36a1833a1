"""The group ``pixels`` of a result's tree: all that abundances of pixels are drawn from, but for the counts.

Draws of the endmembers on the fitted bins, thinned and rounded: to so many binary digits that the log-likelihood of a
pixel changes by less than a hundredth. What rounding leaves of a number compresses to half (Klöwer, M., et al., Nat.
Comput. Sci. 1 (2021) 713, doi:10.1038/s43588-021-00156-2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.config.phase import supports_of
from bayesunmix.fit.draws import Draws
from bayesunmix.forward.quantify import draw_calibration, relative_atoms
from bayesunmix.inference.pixel_model import PixelModel
from bayesunmix.results.finished import Finished

FloatArray = npt.NDArray[np.float64]

# Draws of all chains that are kept.
MOST_DRAWS = 400
# Binary digits of the mantissa that are kept of an endmember.
DIGITS = 13
# Of a pixel that is of no place, and of a support point that is of the phases alone.
NO_PLACE = -1


def pixels_group(run: Finished) -> xr.Dataset:
    """Collect what the abundances of pixels are drawn from."""
    setup, fitted, robust = run.setup, run.fitted, run.robust
    draws, chains = robust.drawn.draws, len(robust.drawn.draws.weights)
    kept = kept_draws(draws.weights.shape[1], chains)
    calibration = draw_calibration(setup.forward, draws.weights.shape[:2], run.seed)
    alone = draws.weights.shape[:2] == (1, 1)
    atoms = relative_atoms(
        draws.weights,
        np.asarray(fitted.data.yields),
        setup.forward,
        fitted.absorbing,
        None if alone else calibration,
    )
    effect, by_draw = fitted.data.effect, ("chain", "draw")
    first = int(np.searchsorted(setup.axis_keV, setup.image.energy_keV[0] - 1e-9))
    variables: dict[str, Any] = {
        "spectra": ((*by_draw, "phase", "energy_bin"), rounded(robust.fitted_spectra[:, kept])),
        "atoms_per_count": ((*by_draw, "phase"), (atoms.sum(axis=-1) / draws.total)[:, kept]),
        "absorption_scale": (by_draw, draws.absorption_scale[:, kept]),
        "stray_exponent": (by_draw, draws.stray_exponent[:, kept]),
        "support": ("phase", supports_of(setup.phases)),
        "relative_thickness": (
            ("y", "x"),
            setup.thickness.pixels.reshape(setup.image.shape[:2]).astype(np.float32),
        ),
        "absorption_slope": ("energy_bin", np.asarray(effect.absorption_slope)),
        "stray_share": ("energy_bin", np.asarray(effect.stray_share)),
        "mass_per_count": ("phase", np.asarray(effect.mass_per_count)),
        "first_channel": ("energy_bin", first + setup.blocks.boundaries[:-1]),
        **_models(run.models),
        **_element_parts(run),
    }
    if robust.rotations is not None:
        variables["rotation"] = ((*by_draw, "phase", "phase_from"), robust.rotations.matrices[:, kept])
    if run.aside is not None:
        places = np.where(setup.image.used, run.aside.places, np.int16(NO_PLACE))
        variables["place"] = (("y", "x"), places.astype(np.int16))
        variables["place_spectrum"] = (("place_number", "energy_bin"), run.aside.spectra)
    return xr.Dataset(
        variables,
        coords={
            "chain": np.arange(chains),
            "draw": kept,
            "phase": [phase.name for phase in setup.phases],
        },
        attrs={
            "channels": [first, first + setup.image.n_channels],
            **({"replaced_channels": np.ravel(setup.replaced).tolist()} if setup.replaced else {}),
            "scale_sd": float(effect.scale_sd),
            "energy_keV": [float(setup.image.energy_keV[0]), float(setup.image.energy_keV[-1])],
        },
    )


def kept_draws(n_draws: int, chains: int) -> npt.NDArray[np.int64]:
    """Numbers of the draws of each chain that are kept, evenly spaced."""
    most = max(MOST_DRAWS // chains, 1)
    return np.unique(np.linspace(0, n_draws - 1, min(most, n_draws)).astype(np.int64))


def rounded(values: FloatArray, digits: int = DIGITS) -> npt.NDArray[np.float32]:
    """Round positive numbers to so many binary digits of the mantissa, to nearest."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    drop = 23 - digits
    found = ((bits + (1 << (drop - 1))) >> drop) << drop
    return np.asarray(found.astype(np.uint32).view(np.float32))


def _element_parts(run: Finished) -> dict[str, Any]:
    """Share of each element's lines in the mean endmembers, by fitted bin; the rest of them is continuum."""
    families, robust = run.setup.forward.families, run.robust
    templates = np.asarray(run.fitted.data.basis.family_templates)
    drawn = _family_shares(robust.drawn.draws)
    if robust.rotations is not None and robust.one_solution is not None:
        # As fitted, like the spectra beside them.
        before = _family_shares(robust.one_solution)
        drawn = np.where(robust.rotations.identical[..., None], drawn, before)
    share = drawn.mean(axis=(0, 1))
    sources = list(dict.fromkeys(family.element for family in families))
    parts = np.zeros((len(share), len(sources), templates.shape[-1]))
    for number, family in enumerate(families):
        parts[:, sources.index(family.element)] += share[:, number, None] * templates[:, number]
    return {
        "element_part": (("phase", "source", "energy_bin"), parts.astype(np.float32)),
        "source": sources,
    }


def _family_shares(draws: Draws) -> FloatArray:
    """Share of each line family in a phase's counts, (chain, draw, phase, family)."""
    return np.asarray(draws.family_counts / draws.total[..., None])


def _models(models: tuple[PixelModel, ...]) -> dict[str, Any]:
    """Put the support points of all models below each other: a place's own spectrum has a column of its own."""
    columns = max(model.support_points.shape[1] for model in models)
    wide = [
        np.pad(model.support_points, ((0, 0), (0, columns - model.support_points.shape[1])))
        for model in models
    ]
    number = np.repeat(np.arange(len(models)) + NO_PLACE, [len(points) for points in wide])
    found: dict[str, Any] = {
        "support_point": (("support_point", "share"), np.concatenate(wide)),
        "support_point_weight": ("support_point", np.concatenate([model.weights for model in models])),
        "support_point_place": ("support_point", number.astype(np.int16)),
        "mean_spectrum": (("phase", "energy_bin"), models[0].spectra),
        "mean_absorption_scale": ((), models[0].scale),
        "mean_stray_exponent": ((), models[0].exponent),
    }
    if models[0].window_shares is not None:
        found["window_share"] = ("window", models[0].window_shares)
    return found
