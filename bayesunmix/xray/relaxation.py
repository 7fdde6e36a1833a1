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
doi:10.1016/j.sab.2011.09.011). What it lacks is supplied here:

* M yields: Evaluated Atomic Data Library (Perkins et al. 1991, doi:10.2172/10121422), in `yields_m.json`. In
  xraylib those of M5 are zero up to lanthanum, those of M4 0.0027 up to cerium (eight times EADL's at
  cadmium, though holes in M4 and M5 are filled alike), and those of M2 rise tenfold to gold and fall
  back. Where the calculations of Chen, Crasemann and Mark (1980, doi:10.1103/PhysRevA.21.449; 1983,
  doi:10.1103/PhysRevA.27.2989) can judge, EADL is within 25 % of them (U: M4 0.0499 against 0.050, M5 0.0465
  against 0.045) and xraylib is not (0.0704, 0.0565). EADL has none for M4 below silver and M5 below cadmium: the
  last value is held, since all that fills these holes there is 4p.
* L yields of Sn, Sb, W and Re, and what of their Coster-Kronig probabilities departs from the neighbours': Krause's
  evaluation (J. Phys. Chem. Ref. Data 8 (1979) 307, doi:10.1063/1.555594). From version 4.1 on xraylib has two single
  experiments in their place, which leave what is smooth in Z: with the elements two before and two behind, Re is low by
  a third in every sub-shell, L2 and L3 of Sb are high by 15 %, and L2 of W stands level with that of Os. Krause's
  are in line, to 3 %. Elam, Ravel and Sieber (2002) have the same, and so had xraylib.
* M rates of Rb to Ag: cadmium's, those of 4d and 5s electrons scaled by the number of these electrons.
* M Coster-Kronig probabilities below holmium (and M4-M5 below ytterbium): Elam, Ravel, Sieber (2002),
  doi:10.1016/S0969-806X(01)00227-4, in `coster_kronig_m.json`.
* The M4,5-N6,7 transitions (M-alpha, M-beta) of La to Eu, where xraylib's rates start at gadolinium.
  Energies are Bearden's (Rev. Mod. Phys. 39 (1967) 78, doi:10.1103/RevModPhys.39.78; Pm interpolated in Z).
  The 4f electrons' share of the radiative width is gadolinium's, scaled by the number of 4f electrons (at
  least one, since a 3d hole draws a 4f electron into lanthanum). Lanthanum has cerium's yields of M4 and M5:
  EADL's are those of an atom without 4f electron.
* K-beta of Na and Mg: a free atom has no 3p electron, but in solids valence electrons fill K holes. The share is
  about 1 % (1.2 % in a map of magnesium silicates that this was held against), the energies are Bearden's.
* Energies of lines from outermost electrons that xraylib does not tabulate (L-N1 of K to Zn, L2-O4 of Os): the
  difference of the levels, zero for an unknown one, which is bound by a few eV.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

import xraylib

from bayesunmix.xray.atomic import SHELLS, atomic_number, lookup

# The name of a line, or of a pair that xraylib does not split (L3O45, KO).
_LINE_NAME = re.compile(r"^(K|L[1-3]|M[1-5])([L-Q][1-7]{0,2})_LINE$")
_AUGER_NAME = re.compile(r"^(K|L[1-3]|M[1-4])_([LM][1-5])([LMNOPQ][1-7])_AUGER$")
_COSTER_KRONIG_NAME = re.compile(r"^F([LM])([1-4])([2-5])_TRANS$")

LANTHANUM = 57
CERIUM = 58
THALLIUM = 81
# Z: energy in keV of K-beta that valence electrons emit, and its share of all K photons.
VALENCE_K_BETA = {11: (1.0711, 0.01), 12: (1.3022, 0.01)}
# Z: yields of L1, L2 and L3, and Coster-Kronig probabilities, by Krause (1979).
L_YIELDS = {
    50: (0.037, 0.065, 0.064),
    51: (0.039, 0.069, 0.069),
    74: (0.147, 0.270, 0.255),
    75: (0.144, 0.283, 0.268),
}
L_COSTER_KRONIG = {
    50: {"FL12": 0.17, "FL13": 0.27, "FL23": 0.157},
    51: {"FL12": 0.17, "FL13": 0.28, "FL23": 0.157},
    75: {"FL23": 0.133},
}
# The first elements for which EADL has yields of M4 and M5.
FIRST_YIELD = {"M4": 47, "M5": 48}
# Z: (4d, 5s electrons of the free atom), Rb to Cd (Kramida et al., NIST Atomic Spectra Database, doi:10.18434/T4W30F).
OUTER_ELECTRONS = {
    37: (0, 1),
    38: (0, 2),
    39: (1, 2),
    40: (2, 2),
    41: (4, 1),
    42: (5, 1),
    43: (5, 2),
    44: (7, 1),
    45: (8, 1),
    46: (10, 0),
    47: (10, 1),
    48: (10, 2),
}
CADMIUM = 48
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
    if shell[0] == "L" and number in L_YIELDS:
        return L_YIELDS[number][int(shell[1]) - 1]
    if shell[0] != "M":
        return lookup(xraylib.FluorYield, number, _shell(shell))
    if number == LANTHANUM and shell in ("M4", "M5"):
        number = CERIUM
    if number in OUTER_ELECTRONS:
        number = max(number, FIRST_YIELD.get(shell, 0))
    return _m_yields().get(number, {}).get(shell, 0.0)


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
    if shell[0] == "M" and number in OUTER_ELECTRONS and number < CADMIUM:
        return _with_fewer_electrons(branching("Cd", shell), *OUTER_ELECTRONS[number])
    rates = {name: lookup(xraylib.RadRate, number, constant) for name, constant in _lines()[shell].items()}
    rates = {name: rate for name, rate in rates.items() if rate > 0.0}
    if shell == "K" and number in VALENCE_K_BETA:
        share = VALENCE_K_BETA[number][1]
        return {name: (1.0 - share) * rate for name, rate in rates.items()} | {"KM3": share}
    if number in LIGHT_LANTHANIDE_M and shell in ("M4", "M5"):
        return _with_4f_lines(rates, shell, LIGHT_LANTHANIDE_M[number][0])
    return rates


def _with_fewer_electrons(rates: dict[str, float], electrons_4d: int, electrons_5s: int) -> dict[str, float]:
    """Scale cadmium's lines from 4d and 5s electrons by the number of these, and all to the same sum."""
    full_4d, full_5s = OUTER_ELECTRONS[CADMIUM]
    filled = {"N4": electrons_4d / full_4d, "N5": electrons_4d / full_4d, "O1": electrons_5s / full_5s}
    scaled = {name: rate * filled.get(name[2:], 1.0) for name, rate in rates.items()}
    total = sum(scaled.values())
    return {name: rate / total for name, rate in scaled.items() if rate > 0.0}


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
    if shell[0] == "L" and number in L_YIELDS:
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
    """Return the probabilities that a hole moves to a higher sub-shell of its own shell."""
    number = atomic_number(element)
    found: dict[str, float] = {}
    for target, (name, constant) in _coster_kronig()[shell].items():
        probability = lookup(xraylib.CosKronTransProb, number, constant)
        evaluated = L_COSTER_KRONIG.get(number, {}).get(name, probability)
        found[target] = evaluated or _elam_coster_kronig(number).get(name, 0.0)
    return found


@cache
def _elam_table() -> tuple[list[str], dict[str, list[float]]]:
    text = resources.files("bayesunmix.xray").joinpath("coster_kronig_m.json").read_text(encoding="utf-8")
    table = json.loads(text)
    return table["transitions"], table["elements"]


@cache
def _m_yields() -> dict[int, dict[str, float]]:
    text = resources.files("bayesunmix.xray").joinpath("yields_m.json").read_text(encoding="utf-8")
    table = json.loads(text)
    return {
        int(number): dict(zip(table["columns"], row, strict=True))
        for number, row in table["elements"].items()
    }


def _elam_coster_kronig(number: int) -> dict[str, float]:
    names, elements = _elam_table()
    return dict(zip(names, elements.get(str(number), []), strict=False))


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
