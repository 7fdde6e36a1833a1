"""Prior widths of the X-ray physics: strengths of lines, ratios inside their families, and the spectrometer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.core.limits import Between

# Wide enough for whatever can be meant; a width of zero would leave nothing to infer.
Width = Annotated[float, Between(1e-6, 1e3)]


@dataclass(frozen=True, kw_only=True)
class XrayPriors:
    """Standard deviations of the priors on lines and spectrometer.

    Parameters
    ----------
    line_strength_k_sd, line_strength_l_sd, line_strength_m_sd
        Relative, of the calculated strength of a line family: what all sources of atomic data have in common, first of
        all the ionisation cross-section. What they differ by for an element (`bayesunmix.xray.spread`) joins it in
        quadrature, so that most K lines have 4 to 6 %, L lines 10 to 12 % and M lines 15 to 21 %, as calculated
        k-factors have (Williams and Carter, Transmission Electron Microscopy (2009), chapter 35). Measured
        cross-sections differ from those taken here by 10.9 % over all shells, their own errors included (Llovet et al.,
        J. Phys. Chem. Ref. Data 43 (2014) 013102, doi:10.1063/1.4832851). A measured k- or zeta-factor brings its own.
    line_strength_light_lanthanide_m_sd
        Relative, of the M families of La to Eu, without any more: databases differ by a factor of two, because their
        3d-4f transitions depend on the bonding.
    line_ratio_k_sd, line_ratio_l_sd, line_ratio_m_sd
        Of the log ratio of a group of lines to the strongest of its family: what all sources have in common, joined by
        what they differ by for an element.
    line_ratio_valence_k_sd
        The same for K-beta of elements below Ca: valence electrons emit it, so that it depends on the compound.
    line_ratio_stray_sd
        The same for stray elements, which emit from a thick part whose absorption is unknown.
    continuum_bend_sd
        Of the bend (second difference over knots) of the smooth factor on the continuum of the sum spectrum, relative
        to its mean: an absorption edge bends it, a line must not.
    gain_sd
        Of the gain of the energy axis around 1.
    offset_sd_keV
        Of the offset of the energy axis around 0, in keV.
    noise_sd_eV
        Of the electronic noise around what the resolution says, in eV.
    fano_sd
        Of the Fano factor around the detector's.
    bend_sd_eV
        Of the departure of the energy axis from a line at its knots, in eV.
    collection_depth_sd_um
        Of the depth of incomplete charge collection around 0, in micrometres.
    surface_collection_sd
        Of the share of the charge that is collected at the surface, around 0.5.
    escape_sd
        Of the factor on the calculated escape of silicon X-rays, around 1.
    soft_pile_up_sd, pile_up_sd
        Of the share of photons that arrive together with a soft photon, and with one of a strong line, around 0.
    pile_up_added_sd
        Of the share of a soft partner's energy that is added, around 1.
    bonded_k_beta_sd_eV
        Of the shift of K-beta lines that valence electrons emit, around 0, in eV.

    Notes
    -----
    Widths of the spectrometer are wide for what instruments show: they matter where the sum spectrum is poor in counts.
    """

    line_strength_k_sd: Width = 0.04
    line_strength_l_sd: Width = 0.10
    line_strength_m_sd: Width = 0.15
    line_strength_light_lanthanide_m_sd: Width = 0.50
    line_ratio_k_sd: Width = 0.03
    line_ratio_l_sd: Width = 0.06
    line_ratio_m_sd: Width = 0.10
    line_ratio_valence_k_sd: Width = 0.20
    line_ratio_stray_sd: Width = 0.25
    continuum_bend_sd: Width = 0.2
    gain_sd: Width = 0.005
    offset_sd_keV: Width = 0.03
    noise_sd_eV: Width = 15.0
    fano_sd: Width = 0.01
    bend_sd_eV: Width = 4.0
    collection_depth_sd_um: Width = 0.1
    surface_collection_sd: Width = 0.15
    escape_sd: Width = 0.5
    soft_pile_up_sd: Width = 5e-3
    pile_up_sd: Width = 5e-3
    pile_up_added_sd: Width = 0.05
    bonded_k_beta_sd_eV: Width = 5.0

    def line_strength_sd(self, family: str) -> float:
        """Relative standard deviation of a family's calculated strength.

        Raises
        ------
        InputError
            If the family is not K, L or M.
        """
        return self._of_family("line_strength", family)

    def line_ratio_sd(self, family: str) -> float:
        """Return the standard deviation of a log ratio inside a family of the sample; raises as `line_strength_sd`."""
        return self._of_family("line_ratio", family)

    @property
    def axis_sd(self) -> npt.NDArray[np.float64]:
        """Widths of gain, offset, noise and Fano factor."""
        return np.array([self.gain_sd, self.offset_sd_keV, self.noise_sd_eV, self.fano_sd])

    def spectrometer_sd(self, n_bend: int, n_soft: int) -> npt.NDArray[np.float64]:
        """Return the widths in the order of `bayesunmix.xray.spectrometer.NAMES`.

        Parameters
        ----------
        n_bend, n_soft
            Knots of the energy axis, and soft partners of pile-up.
        """
        collection = (self.collection_depth_sd_um, self.surface_collection_sd, self.escape_sd)
        piled = (*[self.soft_pile_up_sd] * n_soft, self.pile_up_sd, self.pile_up_added_sd)
        return np.array(
            [*self.axis_sd, *[self.bend_sd_eV] * n_bend, *collection, *piled, self.bonded_k_beta_sd_eV]
        )

    def _of_family(self, what: str, family: str) -> float:
        if family not in ("K", "L", "M"):
            raise InputError("family", "be one of K, L, M", f"is {family!r}")
        return float(getattr(self, f"{what}_{family.lower()}_sd"))


DEFAULT_XRAY_PRIORS = XrayPriors()
