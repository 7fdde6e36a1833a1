"""From holes in the K, L and M sub-shells to the X-ray lines they emit.

A hole in shell i is filled by a photon (fluorescence yield omega_i, branching p_ij to the shell j that
gives the electron), by an Auger process (two new holes further out) or by a Coster-Kronig transition (a new
hole in a higher sub-shell of the same shell). Going outwards from K, the number of holes per atom is

    n_j = sigma_j + sum_{i before j} n_i ( omega_i p_ij + alpha_i q_ij + f_ij ),

sigma the ionisation cross-section, alpha the Auger yield, q_ij the mean number of holes an Auger process in
i leaves in j, and f_ij the Coster-Kronig probability. The electron that a Coster-Kronig transition ejects
is taken from an outer shell that emits nothing here (L1-L3 M5, the one exception, adds less than 1 % to the
M holes).

Yields, radiative, Auger and L Coster-Kronig rates come from xraylib (Schoonjans et al. 2011,
doi:10.1016/j.sab.2011.09.011). What it lacks is supplied here:

* M Coster-Kronig probabilities below holmium (and M4-M5 below ytterbium): Elam, Ravel, Sieber (2002),
  doi:10.1016/S0969-806X(01)00227-4, in `coster_kronig_m.json`.
* The M4,5-N6,7 transitions (M-alpha, M-beta) of La to Eu, where xraylib's rates start at gadolinium.
  Energies are Bearden's (Rev. Mod. Phys. 39 (1967) 78, doi:10.1103/RevModPhys.39.78; Pm interpolated in Z).
  The 4f electrons' share of the radiative width is gadolinium's, scaled by the number of 4f electrons (at
  least one, since a 3d hole draws a 4f electron into lanthanum).
* The M5 yield of lanthanum, zero in xraylib although the line is seen: cerium's is taken.
* The M2 yields of iridium to lead, which rise tenfold to gold and fall back (Au 0.0423 between Os 0.0033
  and Bi 0.0065: a slipped decimal point in the source, spread by interpolation): they are interpolated from
  Os to Bi.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

import xraylib

from bayesunmix.xray.atomic import SHELLS, atomic_number, lookup

_LINE_NAME = re.compile(r"^(K|L[1-3]|M[1-5])([L-Q][1-7])_LINE$")
_AUGER_NAME = re.compile(r"^(K|L[1-3]|M[1-4])_([LM][1-5])([LMNOPQ][1-7])_AUGER$")
_COSTER_KRONIG_NAME = re.compile(r"^F([LM])([1-4])([2-5])_TRANS$")

LANTHANUM = 57
CERIUM = 58
OSMIUM = 76
BISMUTH = 83
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


def fluorescence_yield(element: str, shell: str) -> float:
    """Return the probability that a hole in the sub-shell is filled under emission of a photon."""
    number = atomic_number(element)
    if shell == "M2" and OSMIUM < number < BISMUTH:
        ends = [lookup(xraylib.FluorYield, z, _shell("M2")) for z in (OSMIUM, BISMUTH)]
        return ends[0] + (ends[1] - ends[0]) * (number - OSMIUM) / (BISMUTH - OSMIUM)
    if number == LANTHANUM and shell == "M5":
        number = CERIUM
    return lookup(xraylib.FluorYield, number, _shell(shell))


@cache
def branching(element: str, shell: str) -> dict[str, float]:
    """Return the share of every line in the photons that fill a hole in the sub-shell.

    Parameters
    ----------
    element
        Chemical symbol.
    shell
        Sub-shell with the hole: K, L1 to L3, M1 to M5.

    Returns
    -------
    dict
        IUPAC line name (``KL3``: hole in K, electron from L3) to share; the shares add up to 1 as far as
        xraylib tabulates them (0.97 or more).
    """
    number = atomic_number(element)
    rates = {name: lookup(xraylib.RadRate, number, constant) for name, constant in _lines()[shell].items()}
    rates = {name: rate for name, rate in rates.items() if rate > 0.0}
    if number in LIGHT_LANTHANIDE_M and shell in ("M4", "M5"):
        return _with_4f_lines(rates, shell, LIGHT_LANTHANIDE_M[number][0])
    return rates


def _with_4f_lines(rates: dict[str, float], shell: str, electrons_4f: int) -> dict[str, float]:
    """Add the lines a 4f electron emits, with gadolinium's share scaled by the number of 4f electrons."""
    reference = branching("Gd", shell)
    lines_4f = {name: rate for name, rate in reference.items() if name[2:] in ("N6", "N7")}
    share_gadolinium = sum(lines_4f.values())
    strength = share_gadolinium / (1.0 - share_gadolinium) * electrons_4f / GADOLINIUM_4F_ELECTRONS
    share = strength / (1.0 + strength)
    scaled = {name: (1.0 - share) * rate for name, rate in rates.items()}
    return scaled | {name: share * rate / share_gadolinium for name, rate in lines_4f.items()}


def line_energy_keV(element: str, line: str) -> float:
    """Return the energy of a line in keV, or 0 where it is not known.

    xraylib gives differences of level energies; M-alpha and M-beta of La to Eu are Bearden's measured ones.
    """
    number = atomic_number(element)
    if number in LIGHT_LANTHANIDE_M and line in ("M5N6", "M5N7"):
        return LIGHT_LANTHANIDE_M[number][1]
    if number in LIGHT_LANTHANIDE_M and line == "M4N6":
        return LIGHT_LANTHANIDE_M[number][2]
    return lookup(xraylib.LineEnergy, number, getattr(xraylib, f"{line}_LINE"))


def vacancies(element: str, primary: dict[str, float]) -> dict[str, float]:
    """Return the holes per sub-shell after the cascade from K outwards.

    Parameters
    ----------
    element
        Chemical symbol.
    primary
        Holes made by the beam per sub-shell: cross-sections in cm2, or any unit; shells left out have none.

    Returns
    -------
    dict
        Sub-shell to holes n_j of the module's equation, in the unit of `primary`.
    """
    holes = {shell: primary.get(shell, 0.0) for shell in SHELLS}
    for shell in SHELLS:
        for outer, probability in transfer(element, shell).items():
            holes[outer] += holes[shell] * probability
    return holes


def transfer(element: str, shell: str) -> dict[str, float]:
    """Return the mean number of holes that one hole in `shell` leaves in each sub-shell further out."""
    number = atomic_number(element)
    holes = dict.fromkeys(SHELLS[SHELLS.index(shell) + 1 :], 0.0)
    for line, share in branching(element, shell).items():
        donor = line[len(shell) :]
        if donor in holes:
            holes[donor] += fluorescence_yield(element, shell) * share
    auger_yield = lookup(xraylib.AugerYield, number, _shell(shell))
    for pair, constant in _auger()[shell].items():
        rate = auger_yield * lookup(xraylib.AugerRate, number, constant)
        for donor in pair:
            if donor in holes:
                holes[donor] += rate
    for donor, probability in coster_kronig(element, shell).items():
        holes[donor] += probability
    return holes


def coster_kronig(element: str, shell: str) -> dict[str, float]:
    """Return the probabilities that a hole moves to a higher sub-shell of its own shell."""
    number = atomic_number(element)
    found: dict[str, float] = {}
    for target, (name, constant) in _coster_kronig()[shell].items():
        probability = lookup(xraylib.CosKronTransProb, number, constant)
        found[target] = probability or _elam_coster_kronig(number).get(name, 0.0)
    return found


@cache
def _elam_table() -> tuple[list[str], dict[str, list[float]]]:
    text = resources.files("bayesunmix.xray").joinpath("coster_kronig_m.json").read_text(encoding="utf-8")
    table = json.loads(text)
    return table["transitions"], table["elements"]


def _elam_coster_kronig(number: int) -> dict[str, float]:
    names, elements = _elam_table()
    return dict(zip(names, elements.get(str(number), []), strict=False))


def _shell(shell: str) -> int:
    return int(getattr(xraylib, f"{shell}_SHELL"))


@cache
def _lines() -> dict[str, dict[str, int]]:
    """Return xraylib's line numbers: shell of the hole, then line name; its lumped lines are left out."""
    found: dict[str, dict[str, int]] = {shell: {} for shell in SHELLS}
    for name in dir(xraylib):
        if match := _LINE_NAME.match(name):
            found[match[1]][match[1] + match[2]] = getattr(xraylib, name)
    return found


@cache
def _coster_kronig() -> dict[str, dict[str, tuple[str, int]]]:
    """Return xraylib's Coster-Kronig names and numbers: shell of the hole, then the shell it moves to."""
    found: dict[str, dict[str, tuple[str, int]]] = {shell: {} for shell in SHELLS}
    for name in dir(xraylib):
        if match := _COSTER_KRONIG_NAME.match(name):
            constant = getattr(xraylib, name)
            found[match[1] + match[2]][match[1] + match[3]] = (name.removesuffix("_TRANS"), constant)
    return found


@cache
def _auger() -> dict[str, dict[tuple[str, str], int]]:
    """Return xraylib's Auger numbers: shell of the hole, then the pair of shells that lose an electron."""
    found: dict[str, dict[tuple[str, str], int]] = {shell: {} for shell in SHELLS}
    for name in dir(xraylib):
        if match := _AUGER_NAME.match(name):
            found[match[1]][match[2], match[3]] = getattr(xraylib, name)
    return found
