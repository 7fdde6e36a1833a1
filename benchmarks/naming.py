"""Do proposed names keep their word? Compositions of known phases, measured with errors, and what they are named.

    python benchmarks/naming.py [--cases 400] [--seed 0]

Entries of the library are drawn with a composition of their own, and measured among their elements and a few others:
counting errors of a spectrum of 10^4 to 10^6 counts, and calibration errors of 5, 10 and 20 % for K, L and M lines,
which the draws hold and which their mean is off by. Natural variation is not that of the library's own densities: minor
end members are scarcer, and foreign elements come and go. Then the right entry is taken out of the library, alone or
with all that is nearly as likely. Maps of three phases of one kind of sample, and compositions from the literature,
follow.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.compounds import Compound, library
from bayesunmix.chemistry.endmember_mixing import LIGHT, mixing
from bayesunmix.chemistry.naming import Names, names_of_phases
from bayesunmix.core.threads import single_thread
from bayesunmix.xray.atomic import atomic_number

FloatArray = npt.NDArray[np.float64]
DRAWS = 400
# Heaviest elements whose K and L lines are measured at 200 kV in a usual range of energies.
LAST_K, LAST_L = 38, 71
EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0001)


@dataclass(frozen=True)
class Case:
    """A phase of known kind, its declared elements, and draws of its composition."""

    truth: Compound
    elements: tuple[str, ...]
    draws: FloatArray


def calibration_sd(element: str) -> float:
    """Relative standard deviation of an element's line strength."""
    number = atomic_number(element)
    return 0.05 if number <= LAST_K else 0.10 if number <= LAST_L else 0.20


def measured(fractions: FloatArray, elements: Sequence[str], rng: np.random.Generator) -> FloatArray:
    """Draws (draw, element) of a composition that is measured with errors."""
    counts = 10.0 ** rng.uniform(4.0, 6.0)
    sd = np.sqrt(fractions / counts + 2.0 / counts * 0.05)
    scale = np.array([calibration_sd(element) for element in elements])
    seen = np.maximum(fractions + sd * rng.standard_normal(len(sd)), 0.0)
    off = scale * rng.standard_normal(len(sd))
    amounts = seen + sd * rng.standard_normal((DRAWS, len(sd)))
    # A truncated normal where little is seen, as the draws of a run are.
    while (amounts < 0.0).any():
        amounts = np.where(amounts < 0.0, seen + sd * rng.standard_normal(amounts.shape), amounts)
    x = amounts * np.exp(off + scale * rng.standard_normal(amounts.shape))
    return x / x.sum(axis=1, keepdims=True)


def elements_of(compound: Compound) -> set[str]:
    """Elements of the main end members that a map measures."""
    return {element for one in compound.main for element, _ in one.atoms} - set(LIGHT)


def natural(truth: Compound, elements: Sequence[str], rng: np.random.Generator) -> FloatArray | None:
    """Atom fractions of a natural composition of an entry; None where nothing of it is measured."""
    entry = mixing(truth, elements)
    if entry is None:
        return None
    uniform = rng.random(entry.n_free)
    uniform[entry.n_free - len(entry.limits) :] *= rng.random()
    # Main end members in any proportion, flat.
    main = rng.dirichlet(np.ones(entry.n_main))
    shares = entry.shares(uniform)
    shares[: entry.n_main] = main * shares[: entry.n_main].sum()
    x = entry.composition(shares) * np.exp(0.7 * truth.tolerance * rng.standard_normal(len(elements)))
    foreign = 10.0 ** rng.uniform(-5.0, -2.0, len(elements)) * (rng.random(len(elements)) < 0.5)
    x = x + np.where(entry.holds, 0.0, foreign)
    return np.asarray(x / x.sum())


def simulated(truth: Compound, elements: Sequence[str], rng: np.random.Generator) -> FloatArray | None:
    """Draws of a natural composition of an entry; None where nothing of it is measured."""
    x = natural(truth, elements, rng)
    return None if x is None else measured(x, elements, rng)


def declared(truths: Sequence[Compound], kind: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Return elements that a user would declare: those of the phases, and a few that such samples hold."""
    own = set().union(*(elements_of(one) for one in truths))
    usual = sorted(set().union(*(elements_of(one) for one in library() if kind in one.occurs_in)) - own)
    extra = rng.choice(usual, size=min(len(usual), int(rng.integers(1, 5))), replace=False)
    return (*sorted(own), *(str(one) for one in extra))


def single_cases(number: int, rng: np.random.Generator) -> list[Case]:
    """Draw phases of the library, each in a map of its own."""
    entries = [one for one in library() if elements_of(one)]
    usual = np.array([len(one.occurs_in) * one.weight for one in entries])
    cases: list[Case] = []
    while len(cases) < number:
        truth = entries[rng.choice(len(entries), p=usual / usual.sum())]
        elements = declared([truth], str(rng.choice(truth.occurs_in)), rng)
        draws = simulated(truth, elements, rng)
        if draws is not None:
            cases.append(Case(truth, elements, draws))
    return cases


def named(case: Case, compounds: Sequence[Compound]) -> Names:
    """Ask for the names of one phase."""
    return names_of_phases({"phase": case.draws}, case.elements, compounds, least=0.0)[0]


def rank(found: Names, truth: Compound) -> tuple[bool, bool, bool]:
    """Whether the right name is first, is first or alike with the first, and can be told from all others."""
    if not found.candidates or found.none > found.candidates[0].probability:
        return False, False, True
    first = found.candidates[0]
    own = next((one for one in found.candidates if one.compound.name == truth.name), None)
    exact = first.compound.name == truth.name
    return exact, exact or truth.name in first.alike, own is not None and not own.alike


def told_names(cases: Sequence[Case]) -> list[tuple[Case, Names]]:
    """Names of all cases by the whole library, and a table of how often they are right."""
    found = [(case, named(case, library())) for case in cases]
    ranks = np.array([rank(names, case.truth) for case, names in found])
    sole = ranks[:, 2]
    print(f"{len(cases)} phases, each alone")
    print(f"  right name first, of {sole.sum()} that no other entry is alike:  {ranks[sole, 0].mean():.3f}")
    print(f"  right name first, or alike with the first, of all:      {ranks[:, 1].mean():.3f}")
    print(f"  right name first, of all:                               {ranks[:, 0].mean():.3f}")
    wrong = [(case, names) for (case, names), row in zip(found, ranks, strict=True) if not row[1]]
    for case, names in wrong:
        first = names.candidates[0] if names.candidates else None
        top = f"{first.compound.name} {first.probability:.2f}" if first else "-"
        print(f"    {case.truth.name} in {', '.join(case.elements)}: {top}, none {names.none:.2f}")
    return found


def reliability(found: Sequence[tuple[Case, Names]]) -> None:
    """Print how often candidates are right by the probability that they were given."""
    said = np.array(
        [(one.probability, one.compound.name == c.truth.name) for c, n in found for one in n.candidates]
    )
    print_reliability(np.concatenate([said, [(names.none, 0.0) for _, names in found]]))


def print_reliability(said: npt.NDArray[np.float64]) -> None:
    """Print how often candidates are right by the probability said, of (probability, right) in rows."""
    print("probability said   candidates   mean said   right")
    for low, high in pairwise(EDGES):
        inside = said[(said[:, 0] >= low) & (said[:, 0] < high)]
        if len(inside):
            share, right = inside.mean(axis=0)
            error = np.sqrt(max(share * (1.0 - share), 0.0) / len(inside))
            print(
                f"  {low:4.2f} to {min(high, 1):4.2f}   {len(inside):10d}   {share:9.3f}   {right:5.3f} ± {error:.3f}"
            )


def without_truth(found: Sequence[tuple[Case, Names]], least: float, say: bool) -> None:
    """Print how often none of the entries is first when the right one is taken out, and what it is taken for.

    Parameters
    ----------
    found
        Cases and the names that the whole library gives.
    least
        Others that had this probability, or are alike, are taken out with it.
    say
        Whether to print what is taken for something else.
    """
    first = []
    for case, names in found:
        # Of one element alone every compound of it is alike.
        if len(elements_of(case.truth)) < 2:
            continue
        own = next((one for one in names.candidates if one.compound.name == case.truth.name), None)
        out = {case.truth.name, *(own.alike if own else ())}
        out |= {one.compound.name for one in names.candidates if one.probability >= least}
        again = named(case, [one for one in library() if one.name not in out])
        best = again.candidates[0] if again.candidates else None
        first.append(best is None or again.none > best.probability)
        if best and not first[-1] and say:
            print(f"    {case.truth.name} is taken for {best.compound.name} ({best.probability:.2f})")
    print(f"  none of these first, of {len(first)} phases of two elements or more: {np.mean(first):.3f}")


def maps(number: int, rng: np.random.Generator) -> None:
    """Print how often names are right in maps of three phases that share the kind of sample."""
    kinds = sorted({kind for one in library() for kind in one.occurs_in})
    joint, alone, kept = [], [], 0
    while kept < number:
        kind = str(rng.choice(kinds))
        entries = [one for one in library() if kind in one.occurs_in and elements_of(one)]
        if len(entries) < 10:
            continue
        weight = np.array([one.weight for one in entries])
        chosen = [entries[k] for k in rng.choice(len(entries), 3, replace=False, p=weight / weight.sum())]
        elements = declared(chosen, kind, rng)
        draws = {one.name: simulated(one, elements, rng) for one in chosen}
        if any(one is None for one in draws.values()):
            continue
        kept += 1
        found = names_of_phases(
            {k: v for k, v in draws.items() if v is not None}, elements, library(), least=0.0
        )
        for truth, names in zip(chosen, found, strict=True):
            joint.append(rank(names, truth))
            alone.append(rank(named(Case(truth, elements, draws[truth.name]), library()), truth))
    together, single = np.array(joint), np.array(alone)
    print(f"{number} maps of three phases of one kind of sample")
    print(
        f"  right name first: {together[:, 0].mean():.3f}, and asked for one by one: {single[:, 0].mean():.3f}"
    )
    print(
        f"  right name first, or alike with the first: {together[:, 1].mean():.3f}, {single[:, 1].mean():.3f}"
    )


# Atoms of the declared elements, of compositions that are published or usual; the second column names what is right.
LITERATURE: tuple[tuple[str, str, str], ...] = (
    ("San Carlos olivine", "Olivine", "Mg90.1 Fe9.5 Si50 Ni0.3 Ca0.1 Al0 Cr0"),
    ("fayalite, Rockport", "Olivine", "Fe95 Mn3 Mg1 Si50 Ca0 Al0"),
    ("enstatite of a spinel peridotite", "Orthopyroxene", "Mg164 Fe18 Ca3 Al18 Cr1.5 Si188 Na0.5 Ti0.2"),
    ("diopside of a spinel peridotite", "Clinopyroxene", "Mg85 Fe8 Ca78 Na12 Al24 Cr2.5 Si187 Ti1.2"),
    ("augite of a basalt", "Clinopyroxene", "Mg80 Fe35 Ca72 Na3 Al14 Si190 Ti3 Mn1"),
    ("Kakanui pyrope", "Garnet", "Mg209 Fe68 Ca43 Al191 Si297 Ti3 Mn2 Na0"),
    ("almandine of a mica schist", "Garnet", "Mg35 Fe210 Ca30 Mn22 Al200 Si300 K0 Na0"),
    ("labradorite", "Plagioclase", "Ca60 Na38 K2 Al160 Si238 Fe1.5 Mg0"),
    ("sanidine", "Alkali feldspar", "K78 Na20 Ca1 Al101 Si299 Fe0.5 Mg0"),
    ("biotite of a granite", "Biotite", "K95 Na2 Mg120 Fe130 Ti18 Al150 Si275 Ca0 Mn2"),
    ("phengite", "Muscovite", "K90 Na6 Al235 Mg32 Fe12 Si325 Ti2"),
    ("Kakanui hornblende", "Hornblende", "Na75 K38 Ca158 Mg278 Fe135 Ti52 Al252 Si589"),
    ("ilmenite of a kimberlite", "Ilmenite", "Fe65 Mg30 Ti92 Cr3 Al1.5 Mn0.6 Si0"),
    ("chromite of Bushveld", "Chromite", "Fe80 Mg50 Cr118 Al62 Ti1.5 Ni0.2 Si0"),
    ("natural zircon", "Zircon", "Zr98 Hf1.2 Si100 U0.05 Y0.3"),
    ("monazite", "Monazite", "Ce43 La22 Nd17 Pr5 Sm3 Th8 Si6 Ca3 P94 Y1"),
    ("bridgmanite of a pyrolite run", "Bridgmanite", "Mg87 Fe10 Al11 Si91 Ca1"),
    ("sphalerite with iron", "Sphalerite", "Zn88 Fe12 S100 Cd0.3 Cu0"),
    ("pentlandite", "Pentlandite", "Fe45 Ni44 Co0.6 S80 Cu0"),
    ("gamma prime of CMSX-4", "Gamma prime", "Ni69.5 Co6.2 Cr2.5 Al15.5 Ti1.6 Ta2.9 W1.9 Re0.25 Mo0.3"),
    ("gamma of CMSX-4", "Gamma (nickel)", "Ni53 Co17 Cr19 Al4.5 W2.5 Re3 Mo0.9 Ti0.2 Ta0.5"),
    ("gamma double prime of alloy 718", "Gamma double prime", "Ni72 Nb18 Ti5 Al1.5 Fe1.5 Cr1 Mo1"),
    ("Laves phase of alloy 718", "Laves phase (superalloy)", "Ni43 Nb23 Fe13 Cr14 Mo5 Ti2 Al0.3"),
    ("M23C6 of alloy 740", "M23C6", "Cr84 Ni6 Co4 Mo5 Ti0.3 Al0 Nb0.2"),
    ("mu phase of alloy 276", "Mu phase", "Ni36 Mo39 Cr17 Fe4 W4"),
    ("sigma of duplex steel", "Sigma phase (steel)", "Fe58 Cr31 Mo6 Ni4 Si1"),
    ("austenite 316L", "Austenite", "Fe65 Cr18.5 Ni11.5 Mo1.5 Mn1.8 Si1"),
    ("alpha of Ti-6Al-4V", "Alpha titanium", "Ti87 Al11.5 V1.3 Fe0.05"),
    ("beta of Ti-6Al-4V", "Beta titanium", "Ti75 Al6 V16 Fe3"),
    ("S phase of 2024", "S phase", "Al51 Cu24.5 Mg24.5 Mn0.1 Fe0 Zn0"),
    ("eta of 7075", "Eta (MgZn2)", "Mg33 Zn44 Cu13 Al10"),
    ("Cu6Sn5 on an ENIG pad", "Cu6Sn5", "Cu42 Ni13 Sn45 Ag0 Au0.2"),
    ("Ag3Sn", "Ag3Sn", "Ag75 Sn25 Cu0.3"),
    ("NMC622", "NMC", "Ni59.5 Mn20.3 Co20.2 Al0"),
    ("NMC811", "NMC", "Ni80 Mn10 Co10 Al0"),
    ("YSZ", "Zirconia", "Zr84 Y16 Hf0.9 Si0"),
    ("GDC", "Ceria", "Ce80 Gd20 Zr0"),
    ("basalt glass of a mid-ocean ridge", "none of these", "Si84 Ti1.9 Al31 Fe14 Mg19 Ca20.5 Na8.5 K0.3"),
    ("window glass", "none of these", "Si72 Na26 Ca10 Mg6 Al2 K0.5"),
    ("alloy 718, solution treated", "Gamma (nickel)", "Ni52 Fe19 Cr21 Nb3.2 Mo1.8 Ti1.1 Al1.1 Si0.1"),
    ("CoCrFeMnNi", "none of these", "Co20 Cr20 Fe20 Mn20 Ni20"),
    ("olivine and plagioclase, half and half", "none of these", "Mg90 Fe10 Si169 Ca30 Na20 Al80"),
)


def literature(rng: np.random.Generator) -> None:
    """Print the names of published compositions, each measured once."""
    right = 0
    for what, truth, amounts in LITERATURE:
        atoms = [(one, float(amount)) for one, amount in re.findall(r"([A-Z][a-z]?)([\d.]+)", amounts)]
        elements = [element for element, _ in atoms]
        x = np.array([amount for _, amount in atoms])
        found = names_of_phases({"phase": measured(x / x.sum(), elements, rng)}, elements, library())[0]
        ranked = [(one.compound.name, one.probability) for one in found.candidates]
        ranked = sorted([*ranked, ("none of these", found.none)], key=lambda row: -row[1])
        alike = found.candidates[0].alike if found.candidates else ()
        good = ranked[0][0] == truth or (truth in alike and ranked[0][0] != "none of these")
        right += good
        listed = ", ".join(f"{name} {share:.2f}" for name, share in ranked[:3])
        print(f"  {'' if good else '!':1} {what}: {listed}")
    print(f"literature: {right} of {len(LITERATURE)} named first, or alike with the first")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with single_thread():
        found = told_names(single_cases(options.cases, rng))
        reliability(found)
        print("right entry and what is alike taken out")
        without_truth(found, 2.0, say=True)
        print("right entry and all that had 1 % or more taken out")
        without_truth(found, 0.01, say=False)
        maps(options.cases // 8, rng)
        literature(rng)


if __name__ == "__main__":
    main()
