"""What a map comes to before inference: arrays with names and units, to write a model of one's own on.

With x_ke the atom fractions of phase k, S_kec the detected counts per atom in bin c (its lines, through film and
detector), T_kic the spectrum of everything else (stray lines, oxygen that is not reported, continuum; unit sum) and
a_bk the abundances of a block of pixels in shares of counts, the physics of this package says

    s_kc  proportional to  sum_e x_ke S_kec  +  sum_i w_ki T_kic,       sum_c s_kc = 1
    y_b   ~ Multinomial( sum_c y_bc,  sum_k a_bk s_k )

The total of a block says nothing of a or s where its dose and thickness are free (`bayesunmix.models.unmixing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.core.errors import InputError
from bayesunmix.core.shares import shares_of
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.data.counts import shape_text
from bayesunmix.fit.model_data import Blocks
from bayesunmix.fit.setup import Setup, block_positions

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Prepared(Summarised):
    """Counts in bins and the physics of their spectra.

    Parameters
    ----------
    data
        ``counts`` (block, energy): of blocks of pixels in bins of channels.
        ``per_atom`` (phase, element, energy): detected counts of each line family of an atom, relative to the others.
        ``other`` (phase, component, energy): spectra of what is no element of the sample, each with unit sum.
        ``yields`` (phase, element): detected counts per atom in an element's main family, relative to the others.
        ``allowed`` (phase, element): false where an element is declared absent.
        ``mean_composition`` (element,): atom fractions of the whole map, from its sum spectrum.
        Coordinates: ``energy`` (keV, centre of a bin), ``energy_low`` and ``energy_high``, names of phases, elements
        and components, and ``row`` and ``column`` of a block in the grid of blocks.
    setup
        All that a run starts from.
    """

    data: xr.Dataset
    setup: Setup

    @classmethod
    def of(cls, setup: Setup) -> Prepared:
        """Collect the arrays of a map that is ready to be unmixed.

        Parameters
        ----------
        setup
            With at least one phase.

        Raises
        ------
        InputError
            If the number of phases is left to the map.
        """
        if not setup.phases:
            raise InputError("phases", "be declared, by names or by their number", 'is "auto"')
        blocks, forward = Blocks.of(setup), setup.forward
        basis, yields = forward.basis(blocks.absorbing, blocks.allowed)
        # Spectrum of each component per count in its main family.
        lines = np.zeros((len(setup.phases), len(forward.components), setup.blocks.n_bins))
        for family, owner in enumerate(basis.family_owner):
            lines[:, owner] += basis.family_ratio[:, family, None] * basis.family_templates[:, family]
        lines[:, -1] = np.einsum("kb,kbc->kc", basis.continuum_area, basis.continuum_templates)
        n_elements = len(forward.elements)
        cells, (_, across) = block_positions(setup)
        edges = setup.blocks.edges_keV
        data = xr.Dataset(
            {
                "counts": (("block", "energy"), setup.blocks.counts),
                "per_atom": (("phase", "element", "energy"), yields[..., None] * lines[:, :n_elements]),
                "other": (("phase", "component", "energy"), shares_of(lines[:, n_elements:])),
                "yields": (("phase", "element"), yields),
                "allowed": (("phase", "element"), blocks.allowed),
                "mean_composition": ("element", setup.mean_composition),
            },
            coords={
                "phase": [phase.name for phase in setup.phases],
                "element": list(forward.elements),
                "component": list(forward.components[n_elements:]),
                "energy": ("energy", 0.5 * (edges[1:] + edges[:-1]), {"unit": "keV"}),
                "energy_low": ("energy", edges[:-1], {"unit": "keV"}),
                "energy_high": ("energy", edges[1:], {"unit": "keV"}),
                "row": ("block", cells // across),
                "column": ("block", cells % across),
            },
            attrs={"block_side": setup.blocks.block_side},
        )
        return cls(data, setup)

    def on_map(self, values: npt.ArrayLike) -> FloatArray:
        """Give every pixel what its block has.

        Parameters
        ----------
        values
            Of each block, (..., block).

        Returns
        -------
        (..., y, x), nan where a pixel takes no part.

        Raises
        ------
        InputError
            If there is not one value for each block.
        """
        given, blocks = np.asarray(values, np.float64), self.setup.blocks
        cells, (down, across) = block_positions(self.setup)
        if given.shape[-1:] != (len(cells),):
            must = f"have one value for each of the {len(cells)} blocks along the last axis"
            raise InputError("values", must, f"have shape {shape_text(given)}")
        grid = np.full((*given.shape[:-1], down * across), np.nan)
        grid[..., cells] = given
        return np.where(self.setup.image.used, grid[..., blocks.block_index], np.nan)

    def atom_fractions(self, counts: npt.ArrayLike) -> FloatArray:
        """Turn counts in the elements' main families into atom fractions.

        Parameters
        ----------
        counts
            (..., phase, element).
        """
        return shares_of(np.asarray(counts, np.float64) / self.data["yields"].values)

    def _summary(self) -> Summary:
        data, counts = self.data, self.data["counts"]
        side, image = self.data.attrs["block_side"], self.setup.image
        low, high = float(data["energy_low"][0]), float(data["energy_high"][-1])
        title = (
            f"Prepared map {image.name!r}: {counts.sizes['block']} blocks of {side} x {side} pixels, "
            f"{counts.sizes['energy']} bins from {low:.3g} to {high:.3g} keV, "
            f"{float(counts.sum(dtype=float)) / counts.sizes['block']:.0f} counts in a block"
        )
        named = {"phases": "phase", "elements": "element", "components": "component"}
        rows = tuple((name, ", ".join(map(str, data[one].values))) for name, one in named.items())
        return Summary(title, rows, tuple(f"warning {sentence}" for sentence in self.setup.warnings))
