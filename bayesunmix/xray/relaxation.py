"""From holes in the K, L and M sub-shells to the X-ray lines they emit.

A hole in shell i is filled by a photon (fluorescence yield omega_i, branching p_ij to the shell j that
gives the electron), by an Auger process (two new holes further out) or by a Coster-Kronig transition (a new
hole in a higher sub-shell of the same shell). Going outwards from K, the number of holes per atom is

    n_j = sigma_j + sum_{i before j} n_i ( omega_i p_ij + alpha_i q_ij + f_ij ),

sigma the ionisation cross-section, alpha the Auger yield, q_ij the mean number of holes an Auger process in
i leaves in j, and f_ij the Coster-Kronig probability. The electron that a Coster-Kronig transition ejects
is taken from an outer shell that emits nothing here (L1-L3 M5, the one exception, adds less than 1 % to the
M holes).

K and L yields, radiative, Auger and L Coster-Kronig rates come from xraylib (Schoonjans et al. 2011,
doi:10.1016/j.sab.2011.09.011). What it lacks, and what of it stands out, is supplied by `evaluated`.
"""

from __future__ import annotations

import re
from functools import cache

import xraylib

from bayesunmix.xray.atomic import SHELLS, atomic_number, lookup
from bayesunmix.xray.evaluated import (
    CADMIUM,
    CERIUM,
    FIRST_YIELD,
    GADOLINIUM_4F_ELECTRONS,
    L_COSTER_KRONIG,
    L_YIELDS,
    LANTHANUM,
    LIGHT_LANTHANIDE_M,
    RUBIDIUM,
    VALENCE_K_BETA,
    l_beta2_factor,
    m_coster_kronig,
    m_rates,
    m_yields,
)

# The name of a line, or of a pair that xraylib does not split (L3O45, KO).
_LINE_NAME = re.compile(r"^(K|L[1-3]|M[1-5])([L-Q][1-7]{0,2})_LINE$")
_AUGER_NAME = re.compile(r"^(K|L[1-3]|M[1-4])_([LM][1-5])([LMNOPQ][1-7])_AUGER$")
_COSTER_KRONIG_NAME = re.compile(r"^F([LM])([1-4])([2-5])_TRANS$")

THALLIUM = 81


def fluorescence_yield(element: str, shell: str) -> float:
    """Return the probability that a hole in the sub-shell is filled under emission of a photon."""
    number = atomic_number(element)
    if shell[0] != "M":
        evaluated = L_YIELDS.get(number, {}).get(shell)
        return lookup(xraylib.FluorYield, number, _shell(shell)) if evaluated is None else evaluated
    if number == LANTHANUM and shell in ("M4", "M5"):
        number = CERIUM
    if number >= RUBIDIUM:
        number = max(number, FIRST_YIELD.get(shell, 0))
    return m_yields().get(number, {}).get(shell, 0.0)


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
        IUPAC line name (``KL3``: hole in K, electron from L3; ``L3O45``: from O4 or O5, ``KO``: from any O
        sub-shell) to share; the shares add up to 1.
    """
    number = atomic_number(element)
    if shell[0] == "M" and shell in (relativistic := m_rates().get(number, {})):
        return {shell + donor: share for donor, share in relativistic[shell].items()}
    if shell[0] == "M" and RUBIDIUM <= number < CADMIUM:
        return branching("Cd", shell)
    rates = {name: lookup(xraylib.RadRate, number, constant) for name, constant in _lines()[shell].items()}
    rates = {name: rate for name, rate in rates.items() if rate > 0.0}
    if shell == "K" and number in VALENCE_K_BETA:
        share = VALENCE_K_BETA[number][1]
        return {name: (1.0 - share) * rate for name, rate in rates.items()} | {"KM3": share}
    if number in LIGHT_LANTHANIDE_M and shell in ("M4", "M5"):
        return _with_4f_lines(rates, shell, LIGHT_LANTHANIDE_M[number][0])
    return _with_l_beta2(rates, l_beta2_factor(number)) if shell == "L3" else rates


def _with_l_beta2(rates: dict[str, float], factor: float) -> dict[str, float]:
    """Scale L-beta2 and L-beta15 relative to the other lines of L3, and all to the same sum."""
    scaled = {name: rate * (factor if name in ("L3N4", "L3N5") else 1.0) for name, rate in rates.items()}
    change = sum(rates.values()) / sum(scaled.values()) if scaled else 1.0
    return {name: rate * change for name, rate in scaled.items()}


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

    xraylib gives differences of level energies; M-alpha and M-beta of La to Eu are Bearden's measured ones,
    and levels that xraylib has no energy for count as zero.
    """
    number = atomic_number(element)
    if number in LIGHT_LANTHANIDE_M and line in ("M5N6", "M5N7"):
        return LIGHT_LANTHANIDE_M[number][1]
    if number in LIGHT_LANTHANIDE_M and line == "M4N6":
        return LIGHT_LANTHANIDE_M[number][2]
    if number in VALENCE_K_BETA and line == "KM3":
        return VALENCE_K_BETA[number][0]
    energy = lookup(xraylib.LineEnergy, number, getattr(xraylib, f"{line}_LINE"))
    hole, donor = _split(line)
    # 6p electrons, to which the interpolated M rates give lines from caesium on, begin with thallium.
    no_such_electron = donor[:2] in ("P2", "P3") and number < THALLIUM
    if energy > 0.0 or no_such_electron or line not in branching(element, hole):
        return energy
    levels = [
        lookup(xraylib.EdgeEnergy, number, _shell(name)) for name in (hole, f"{donor[0]}{donor[1:2] or 1}")
    ]
    return levels[0] - levels[1]


def _split(line: str) -> tuple[str, str]:
    """Split ``L3M5`` into the sub-shell of the hole and that of the electron."""
    length = 1 if line.startswith("K") else 2
    return line[:length], line[length:]


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
    if shell[0] == "L" and (number in L_YIELDS or number in L_COSTER_KRONIG):
        auger_yield = 1.0 - fluorescence_yield(element, shell) - sum(coster_kronig(element, shell).values())
    for pair, constant in _auger()[shell].items():
        rate = auger_yield * lookup(xraylib.AugerRate, number, constant)
        for donor in pair:
            if donor in holes:
                holes[donor] += rate
    for donor, probability in coster_kronig(element, shell).items():
        holes[donor] += probability
    return holes


def coster_kronig(element: str, shell: str) -> dict[str, float]:
    """Return the probabilities that a hole moves to a higher sub-shell of its own shell.

    Where tables have more than a hole can do (M1 of Zr, Nb and Ho to Yb, by up to a tenth), what photons leave.
    """
    number = atomic_number(element)
    found: dict[str, float] = {}
    for target, (name, constant) in _coster_kronig()[shell].items():
        probability = lookup(xraylib.CosKronTransProb, number, constant)
        evaluated = L_COSTER_KRONIG.get(number, {}).get(name, probability)
        found[target] = evaluated or m_coster_kronig().get(number, {}).get(name, 0.0)
    left = 1.0 - fluorescence_yield(element, shell)
    excess = max(1.0, sum(found.values()) / left) if left > 0.0 else 1.0
    return {target: probability / excess for target, probability in found.items()}


def _shell(shell: str) -> int:
    return int(getattr(xraylib, f"{shell}_SHELL"))


@cache
def _lines() -> dict[str, dict[str, int]]:
    """Return xraylib's line numbers: shell of the hole, then line name."""
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
