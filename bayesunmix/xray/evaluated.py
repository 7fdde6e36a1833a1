"""Evaluated values in place of xraylib's: what it lacks, and what of it stands out among elements and sources.

`benchmarks/line_sources.py` compares the sources and finds what stands out.

* M yields: Evaluated Atomic Data Library (Perkins et al. 1991, doi:10.2172/10121422), in `yields_m.json`. In
  xraylib those of M5 are zero up to lanthanum, those of M4 0.0027 up to cerium (eight times EADL's at cadmium,
  though holes in M4 and M5 are filled alike), and those of M2 rise tenfold to gold and fall back. Where the
  calculations of Chen, Crasemann and Mark (1980, doi:10.1103/PhysRevA.21.449; 1983, doi:10.1103/PhysRevA.27.2989)
  can judge, EADL is within 25 % of them (U: M4 0.0499 against 0.050, M5 0.0465 against 0.045) and xraylib is not
  (0.0704, 0.0565). EADL has none for M4 below silver and M5 below cadmium: the last value is held, since all that
  fills these holes there is 4p.
* L yields of Sn, Sb, W and Re, and what of their Coster-Kronig probabilities departs from the neighbours': Krause's
  evaluation (J. Phys. Chem. Ref. Data 8 (1979) 307, doi:10.1063/1.555594). From version 4.1 on xraylib has two
  single experiments in their place, which leave what is smooth in Z: with the elements two before and two behind,
  Re is low by a third in every sub-shell, L2 and L3 of Sb are high by 15 %, and L2 of W stands level with that of
  Os. Krause's are in line, to 3 %. Elam, Ravel and Sieber (2002) have the same, and so had xraylib.
* M rates: EADL's, which are relativistic, in `rates_m.json`; xraylib's (Bhalla, J. Phys. B 3 (1970) 916) are not,
  begin with cadmium, and lack the lines inside the M shell. Their M3-N1 is three times, M1-N2 twice as strong,
  M-zeta of the actinides twice. M4 from hafnium and M5 from osmium on, where the two meet: below, EADL has the 4f
  shell of a free atom, and xraylib's are kept (M4 and M5 of Rb to Ag have cadmium's).
* L-beta2,15 (L3-N4,5): calculated for free atoms it is a third too weak beside L-alpha in the 4d metals and a sixth
  in heavy elements; `L_BETA2` holds the ratio of what was measured (Salem, Panossian, Krause, At. Data Nucl. Data
  Tables 14 (1974) 91, doi:10.1016/S0092-640X(74)80017-3, as in Elam et al. 2002) to what was calculated.
* f23 of Ti to Zn: Elam, Ravel, Sieber (2002). xraylib has the low L2 yields that follow from the transitions
  L2-L3M4,5 of the metals, 0.52 to 0.79 of L3's, but puts f23 to zero, so that up to half of the L2 holes would be
  lost. The width of L2 in copper confirms the transitions (Deutsch et al., Phys. Rev. A 51 (1995) 3661,
  doi:10.1103/PhysRevA.51.3661).
* f12 of Os and the L1 yield of Ir: Krause (1979), as in Elam et al. (2002). xraylib's stand out of the neighbours'.
* M Coster-Kronig probabilities below holmium (and M4-M5 below ytterbium): Elam, Ravel, Sieber (2002),
  doi:10.1016/S0969-806X(01)00227-4, in `coster_kronig_m.json`; those of Rb to Y, which add up to more than 1 there,
  EADL.
* The M4,5-N6,7 transitions (M-alpha, M-beta) of La to Eu, where xraylib's rates start at gadolinium. Energies are
  Bearden's (Rev. Mod. Phys. 39 (1967) 78, doi:10.1103/RevModPhys.39.78; Pm interpolated in Z). The 4f electrons'
  share of the radiative width is gadolinium's, scaled by the number of 4f electrons (at least one, since a 3d hole
  draws a 4f electron into lanthanum). Lanthanum has cerium's yields of M4 and M5: EADL's are those of an atom
  without 4f electron.
* K-beta of Na and Mg: a free atom has no 3p electron, but in solids valence electrons fill K holes. The share is
  about 1 % (1.2 % in a map of magnesium silicates that this was held against), the energies are Bearden's.
* Energies of lines from outermost electrons that xraylib does not tabulate (L-N1 of K to Zn, L2-O4 of Os): the
  difference of the levels, zero for an unknown one, which is bound by a few eV.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

LANTHANUM = 57
CERIUM = 58
# Z: energy in keV of K-beta that valence electrons emit, and its share of all K photons.
VALENCE_K_BETA = {11: (1.0711, 0.01), 12: (1.3022, 0.01)}
# Z: yields and Coster-Kronig probabilities of L, by Krause (1979); f23 of the 3d metals by Elam et al. (2002).
L_YIELDS: dict[int, dict[str, float]] = {
    50: {"L1": 0.037, "L2": 0.065, "L3": 0.064},
    51: {"L1": 0.039, "L2": 0.069, "L3": 0.069},
    74: {"L1": 0.147, "L2": 0.270, "L3": 0.255},
    75: {"L1": 0.144, "L2": 0.283, "L3": 0.268},
    77: {"L1": 0.120},
}
L_COSTER_KRONIG: dict[int, dict[str, float]] = {
    22: {"FL23": 0.25},
    23: {"FL23": 0.29},
    24: {"FL23": 0.35},
    25: {"FL23": 0.39},
    26: {"FL23": 0.42},
    27: {"FL23": 0.43},
    28: {"FL23": 0.45},
    29: {"FL23": 0.47},
    30: {"FL23": 0.24},
    50: {"FL12": 0.17, "FL13": 0.27, "FL23": 0.157},
    51: {"FL12": 0.17, "FL13": 0.28, "FL23": 0.157},
    75: {"FL23": 0.133},
    76: {"FL12": 0.12},
}
# L-beta2,15 to L-alpha as measured, over what is calculated: at atomic numbers, between which it is straight.
L_BETA2 = ((40, 1.32), (46, 1.30), (50, 1.25), (54, 1.20), (60, 1.17), (82, 1.165), (92, 1.135))
# The first elements for which EADL has yields of M4 and M5.
FIRST_YIELD = {"M4": 47, "M5": 48}
RUBIDIUM, CADMIUM = 37, 48
# Z: (4f electrons, M-alpha keV, M-beta keV), La to Eu.
LIGHT_LANTHANIDE_M = {
    57: (1, 0.833, 0.854),
    58: (1, 0.883, 0.902),
    59: (3, 0.929, 0.950),
    60: (4, 0.978, 0.997),
    61: (5, 1.029, 1.048),
    62: (6, 1.081, 1.100),
    63: (7, 1.131, 1.153),
}
GADOLINIUM_4F_ELECTRONS = 7


@cache
def m_yields() -> dict[int, dict[str, float]]:
    """Return the fluorescence yields of the M sub-shells by atomic number; 0 where there is none."""
    return _by_number("yields_m.json", "columns")


@cache
def m_rates() -> dict[int, dict[str, dict[str, float]]]:
    """Return by atomic number and M sub-shell the shares of lines, adding up to 1, named by the electron's shell."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for number, shells in _read("rates_m.json")["elements"].items():
        totals = {shell: sum(shares.values()) for shell, shares in shells.items()}
        found[int(number)] = {
            shell: {donor: share / totals[shell] for donor, share in shares.items()}
            for shell, shares in shells.items()
        }
    return found


@cache
def m_coster_kronig() -> dict[int, dict[str, float]]:
    """Return the Coster-Kronig probabilities of the M shell by atomic number, named as in xraylib (``FM45``)."""
    return _by_number("coster_kronig_m.json", "transitions")


def l_beta2_factor(number: int) -> float:
    """Return the measured over the calculated ratio of L-beta2,15 to L-alpha of an atomic number, 1 below zirconium."""
    first = L_BETA2[0][0]
    return float(np.interp(number, *np.transpose(L_BETA2))) if number >= first else 1.0


def _by_number(name: str, heading: str) -> dict[int, dict[str, float]]:
    """Return by atomic number the values of a file's rows, named as its `heading` lists them."""
    table = _read(name)
    return {
        int(number): dict(zip(table[heading], row, strict=True)) for number, row in table["elements"].items()
    }


def _read(name: str) -> dict[str, Any]:
    text = resources.files("bayesunmix.xray").joinpath(name).read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
