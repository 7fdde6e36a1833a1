"""Names of phases: the library, what an entry is in the declared elements, probabilities, and what is said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.chemistry.compound_evidence import evidence, none_log_likelihood
from bayesunmix.chemistry.compounds import Compound, called, library, read_compounds
from bayesunmix.chemistry.endmember_mixing import LIGHT, mixing
from bayesunmix.chemistry.naming import NONE, Names, names_of_phases, posterior
from bayesunmix.chemistry.smoothed_composition import SmoothedComposition
from bayesunmix.chemistry.unit_cube import integral
from bayesunmix.core.errors import InputError
from bayesunmix.results.names import against_given, what_decides
from bayesunmix.results.record_parts import PhaseNames, ProposedName
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

# Charges that occur in the library's ionic formulas.
CHARGES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys("H Li Na K Cs Ag".split(), (1,)),
    **dict.fromkeys("Be Mg Ca Sr Ba Zn Cd".split(), (2,)),
    **dict.fromkeys("B Al Ga In Sc Y La Nd Sm Gd Dy Ho Er Yb Lu".split(), (3,)),
    **dict.fromkeys("Si Ge C Zr Hf Th Pu Ru Ir".split(), (4,)),
    **dict.fromkeys("P Ta".split(), (5,)),
    **dict.fromkeys("Mo W".split(), (6,)),
    **dict.fromkeys("Ce Pr Ti".split(), (3, 4)),
    **dict.fromkeys("Fe Co Ni Mn Sn Pb".split(), (2, 4)),
    **dict.fromkeys("Sb As Bi V".split(), (3, 5)),
    **{"Nb": (4, 5), "Cr": (2, 6), "U": (4, 6), "Cu": (1, 3), "S": (-2, 6), "N": (-3,), "O": (-2,)},
    **dict.fromkeys("F Cl Br I".split(), (-1,)),
}
OLIVINE = next(one for one in library() if one.name == "Olivine")


def drawn(
    amounts: dict[str, float], sd: float = 0.07, seed: int = 0, n: int = 300
) -> tuple[FloatArray, list[str]]:
    """Draws of a composition with relative errors; an amount of 0 is known to be small."""
    rng = np.random.default_rng(seed)
    x = np.array(list(amounts.values()), dtype=np.float64) / sum(amounts.values())
    draws = x * np.exp(sd * rng.standard_normal((n, len(x)))) + 1e-4 * np.abs(
        rng.standard_normal((n, len(x)))
    )
    return draws / draws.sum(axis=1, keepdims=True), list(amounts)


def ask(amounts: dict[str, float], compounds: Sequence[Compound] | None = None, **how: object) -> Names:
    draws, elements = drawn(amounts)
    (found,) = names_of_phases({"A": draws}, elements, compounds or library(), **how)  # type: ignore[arg-type]
    return found


def test_the_library_is_large_and_every_entry_has_its_source() -> None:
    entries = library()
    assert len(entries) >= 200
    assert len({one.name for one in entries}) == len(entries)
    for one in entries:
        assert any(year in one.source for year in ("19", "20")), one.name
        assert one.occurs_in, one.name
        assert one.group, one.name


def test_ionic_formulas_balance() -> None:
    checked = 0
    for compound in library():
        for one in compound.endmembers:
            atoms = dict(one.atoms)
            if not {"O", "F", "Cl", "Br", "I"} & set(atoms):
                continue
            checked += 1
            low, high = (sum(n * pick(CHARGES[e]) for e, n in atoms.items()) for pick in (min, max))
            assert low - 1e-6 <= 0.0 <= high + 1e-6, (compound.name, one.formula)
    assert checked > 400


def test_an_entry_stands_in_the_declared_elements() -> None:
    forsterite = mixing(OLIVINE, ["Mg", "Si"])
    assert forsterite is not None
    assert [one.name for one in forsterite.endmembers] == ["Forsterite"]
    assert forsterite.unmeasured == ("O",)
    assert mixing(OLIVINE, ["Ca", "Si"]) is None
    assert mixing(OLIVINE, ["Mg", "Si"], oxygen=False) is None
    stray = mixing(next(one for one in library() if one.name == "Chalcopyrite"), ["Fe", "S"], hidden=["Cu"])
    assert stray is not None
    assert stray.unmeasured == ("Cu",)


def test_main_end_members_are_a_dirichlet_and_minor_ones_within_their_limits() -> None:
    garnet = mixing(
        next(one for one in library() if one.name == "Garnet"), ["Mg", "Fe", "Ca", "Mn", "Al", "Si", "Cr"]
    )
    assert garnet is not None
    shares = garnet.shares(np.random.default_rng(0).random((20000, garnet.n_free)))
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert (shares[:, garnet.n_main :] <= garnet.limits + 1e-12).all()
    main = shares[:, : garnet.n_main] / shares[:, : garnet.n_main].sum(axis=1, keepdims=True)
    # Moments of a Dirichlet of three halves: mean 1/3, variance (1/3) (2/3) / (3/2 + 1).
    assert np.allclose(main.mean(axis=0), 1.0 / 3.0, atol=0.01)
    assert np.allclose(main.var(axis=0), 4.0 / 45.0, atol=0.003)


def narrow_peak(u: FloatArray) -> FloatArray:
    """Log of a normal density but for its height: 1.26e-6 is its integral."""
    centre, sd = np.array([0.3, 0.62, 0.05]), np.array([0.004, 0.01, 0.002])
    return np.asarray(-0.5 * (((u - centre) / sd) ** 2).sum(axis=1))


def bent_ridge(u: FloatArray) -> FloatArray:
    """Two coordinates stand in for each other, as end members do that bring the same element."""
    apart = (u[:, 0] ** 2 + u[:, 1] ** 2 - 0.25) / 0.002
    return np.asarray(-0.5 * (apart**2 + ((u[:, 2:] - 0.4) / 0.01) ** 2 @ np.ones(2)))


@pytest.mark.parametrize(
    ("function", "dimension", "exact"),
    [
        (narrow_peak, 3, 0.004 * 0.01 * 0.002 * (2.0 * np.pi) ** 1.5),
        (bent_ridge, 4, 0.25 * np.pi * 0.002 * 0.01**2 * (2.0 * np.pi) ** 1.5),
    ],
)
def test_integrals_over_the_cube_hold(
    function: Callable[[FloatArray], FloatArray], dimension: int, exact: float
) -> None:
    logs = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        found = integral(function, rng.random((1024, dimension)), rng)
        assert found is not None
        logs.append(found.log - np.log(exact))
    assert abs(np.mean(logs)) < 0.15
    assert np.std(logs) < 0.3


def test_an_integral_that_is_of_no_interest_is_not_followed() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((256, 2))

    def low(u: FloatArray) -> FloatArray:
        return np.asarray(-30.0 - 50.0 * (u**2).sum(axis=1))

    assert integral(low, first, rng, least=0.0) is None
    assert integral(low, first, rng, least=-60.0) is not None


def test_the_likelihood_of_a_stoichiometric_compound_is_the_density_of_the_draws() -> None:
    # Draws of one log ratio: the likelihood is their smoothed density, widened by the tolerance of the entry.
    rng = np.random.default_rng(2)
    draws = np.exp(0.2 * rng.standard_normal((4000, 1))) * np.array([[1.0, 0.0]]) + np.array([[0.0, 1.0]])
    smoothed = SmoothedComposition.of(draws / draws.sum(axis=1, keepdims=True))
    entry = mixing(Compound(name="A", formula="FeTi", endmembers=OLIVINE.endmembers), ["Fe", "Ti"])
    assert entry is None
    iron = next(one for one in library() if one.name == "Iron aluminide FeAl")
    plain = mixing(dataclasses.replace(iron, endmembers=iron.main, tolerance=0.05), ["Fe", "Al"])
    assert plain is not None
    log_m = evidence(plain, smoothed, -np.inf).log_likelihood
    held = plain.holds
    other = 1 - smoothed.reference
    prior = np.log(0.5) + np.log(0.5 + smoothed.start[other])
    z = smoothed.log_ratios(np.array([[0.5, 0.5]]))
    assert log_m == pytest.approx(float(smoothed.density(held, 0.05)(z)[0]) - prior, abs=0.1)


def test_none_of_these_adds_up_over_all_choices_of_main_elements() -> None:
    draws, _ = drawn({"Mg": 2, "Si": 1, "Fe": 0.02})
    smoothed = SmoothedComposition.of(draws)
    t = np.exp(np.delete(smoothed.log_trace, smoothed.reference))
    # k = 1: all others foreign; k = 2: one of them main; k = 3: all main. C(3, k) = 3, 3, 1.
    expected = (t[0] * t[1] / 3.0 + 1.0 * (t[0] + t[1]) / 3.0 + 2.0) / 3.0
    assert none_log_likelihood(smoothed) == pytest.approx(np.log(expected))


@pytest.mark.parametrize(
    ("amounts", "name"),
    [
        ({"Mg": 180, "Fe": 20, "Si": 100, "Ca": 0.2, "Al": 0}, "Olivine"),
        ({"Na": 38, "Ca": 60, "K": 2, "Al": 160, "Si": 238}, "Plagioclase"),
        ({"Cu": 1, "Fe": 1, "S": 2, "Zn": 0}, "Chalcopyrite"),
        ({"Ni": 69.5, "Co": 6.2, "Cr": 2.5, "Al": 15.5, "Ti": 1.6, "Ta": 2.9, "W": 1.9}, "Gamma prime"),
        ({"Ni": 53, "Co": 17, "Cr": 19, "Al": 4.5, "W": 2.5, "Re": 3, "Ta": 0.5}, "Gamma (nickel)"),
        ({"Cu": 55, "Sn": 45, "Ag": 0}, "Cu6Sn5"),
        ({"Ga": 1, "As": 1, "In": 0, "P": 0}, "Gallium arsenide"),
        ({"Ce": 80, "Gd": 20, "Zr": 0}, "Ceria"),
    ],
)
def test_a_composition_finds_its_name(amounts: dict[str, float], name: str) -> None:
    found = ask(amounts)
    assert found.candidates[0].compound.name == name
    own = (name, *found.candidates[0].alike)
    assert sum(one.probability for one in found.candidates if one.compound.name in own) > 0.8
    total = found.none + sum(one.probability for one in found.candidates)
    assert total == pytest.approx(1.0, abs=0.05)


def test_the_end_member_says_where_a_solid_solution_lies() -> None:
    member = ask({"Mg": 180, "Fe": 20, "Si": 100}).candidates[0].member.rsplit(maxsplit=1)
    assert member[0] == "Forsterite"
    assert float(member[1]) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    "amounts",
    [
        {
            "Si": 84,
            "Ti": 1.9,
            "Al": 31,
            "Fe": 14,
            "Mg": 19,
            "Ca": 20.5,
            "Na": 8.5,
            "K": 0.3,
        },  # basaltic glass
        {
            "Mg": 90,
            "Fe": 10,
            "Si": 169,
            "Ca": 30,
            "Na": 20,
            "Al": 80,
        },  # olivine and plagioclase, half and half
        {"Co": 20, "Cr": 20, "Fe": 20, "Mn": 20, "Ni": 20},
    ],
)
def test_a_mixture_or_a_glass_is_none_of_these(amounts: dict[str, float]) -> None:
    found = ask(amounts)
    assert found.none > 0.9


def test_without_the_right_entry_it_is_none_of_these() -> None:
    amounts = {"Cu": 1, "Fe": 1, "S": 2, "Zn": 0}
    found = ask(amounts, [one for one in library() if one.name != "Chalcopyrite"])
    assert found.none > 0.5
    assert all(one.probability < found.none for one in found.candidates)


def test_what_only_unmeasured_elements_tell_apart_shares_the_probability() -> None:
    found = ask({"Si": 1.0, "Ti": 0.0}, kind="semiconductor")
    named = {one.compound.name: one for one in found.candidates}
    alike = ("Silicon", "Silica", "Silicon nitride", "Silicon carbide")
    first = [named[name].probability for name in alike]
    assert max(first) == pytest.approx(min(first), rel=1e-6)
    assert {"Silicon", "Silica", "Silicon nitride"} <= {*named["Silicon carbide"].alike}
    row = [
        ProposedName(
            name=n, formula="", probability=0.2, unmeasured=named[n].unmeasured, alike=named[n].alike
        )
        for n in alike
    ]
    text = what_decides(PhaseNames(phase="A", none=0.1, proposed=tuple(row)))
    assert text == "O, N and C, not measured"


def test_phases_of_one_map_tell_the_kind_of_sample() -> None:
    elements = ["Mg", "Fe", "Al", "Si", "Ca"]
    phases = {
        "A": {"Mg": 88, "Fe": 8, "Al": 8, "Si": 96, "Ca": 1},
        "B": {"Mg": 84, "Fe": 16, "Al": 0, "Si": 0, "Ca": 0},
        "C": {"Mg": 0, "Fe": 1, "Al": 3, "Si": 98, "Ca": 98},
    }
    draws = {name: drawn(x)[0] for name, x in phases.items()}
    together = names_of_phases(draws, elements, library())
    assert [one.candidates[0].compound.name for one in together] == [
        "Bridgmanite",
        "Ferropericlase",
        "Davemaoite",
    ]
    (alone,) = names_of_phases({"A": draws["A"]}, elements, library())
    assert alone.candidates[0].compound.name == "Orthopyroxene"
    assert alone.candidates[0].alike
    (said,) = names_of_phases({"A": draws["A"]}, elements, library(), kind="deep mantle")
    assert said.candidates[0].compound.name == "Bridgmanite"


def test_an_element_that_is_not_declared_excludes_what_needs_it() -> None:
    found = ask({"Cu": 1, "S": 1})
    assert not any(one.compound.name in ("Chalcopyrite", "Bornite") for one in found.candidates)


def test_a_point_has_the_usual_errors() -> None:
    draws, elements = drawn({"Mg": 180, "Fe": 20, "Si": 100, "Ca": 0.2})
    (found,) = names_of_phases({"A": draws.mean(axis=0, keepdims=True)}, elements, library())
    assert found.candidates[0].compound.name == "Olivine"


def test_without_a_compound_that_can_be_there_it_is_none() -> None:
    (found,) = names_of_phases({"A": np.full((5, 2), 0.5)}, ["Xe", "Kr"], library())
    assert (found.none, found.candidates) == (1.0, ())
    joint, rest = posterior(np.zeros((1, 1)), np.zeros(1), [OLIVINE])
    assert rest[0] == pytest.approx(NONE)
    assert joint[0, 0] == pytest.approx(1.0 - NONE)


def test_names_and_abbreviations_are_known() -> None:
    for name, entry in {
        "Fo": "Olivine",
        "gamma prime": "Gamma prime",
        "γ'": "Gamma prime",
        "Gamma-Prime": "Gamma prime",
        "Brg": "Bridgmanite",
        "CaPv": "Davemaoite",
        "quartz": "Quartz",
        "LFP": "Lithium iron phosphate",
    }.items():
        assert [one.name for one in called(name, library())] == [entry], name
    assert called("A", library()) == called("phase 1", library()) == called("matrix", library()) == ()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"must hold 1 to 2000 tables \[\[compound\]\]"),
        ("[[mineral]]\nname = 'x'", "must hold tables"),
        ("[[compound]]\nformula = 'Fe'", r"compound\[1\].name"),
        ("[[compound]]\nname = 'x'", "x.formula"),
        ("[[compound]]\nname = 'x'\nformula = 'Xx2'", "must be a formula such as Mg2SiO4"),
        ("[[compound]]\nname = 'x'\nformula = 'Fe'\ncolour = 'red'", "x.colour"),
        ("[[compound]]\nname = 'x'\nformula = 'Fe'\ntolerance = 7", "x.tolerance"),
        ("[[compound]]\nname = 'x'\nformula = 'Fe'\nminor = {Ni = 2}", "x.minor.Ni"),
        ("[[compound]]\nname = 'x'\nformula = 'Fe'\nendmembers = 3", "x.endmembers"),
        ("[[compound]]\nname = 'x'\nformula = 'Fe'\nalso = 'y'", "must be a list of texts"),
        ("[[compound]]\nname = 'x'\nformula = 'Fe'\n[[compound]]\nname = 'x'\nformula = 'Ni'", "repeats"),
        ("[[compound]\n", "must be valid TOML"),
        ('[[compound]]\nname = "x\\ny"\nformula = "Fe"', "must be a text of one line"),
        ("[[compound]]\nname = 'none of these'\nformula = 'Fe'", "has another meaning"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    tables = {"sample": {"elements": ["Fe"]}, "phases": 1, "output": {"compounds": str(path)}}
    from bayesunmix.config.run_config import RunConfig

    with pytest.raises(InputError, match=match) as caught:
        RunConfig.from_dict(tables)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("`output.compounds`", "`output.compounds."))
    assert "compounds.output" not in str(caught.value)


def test_an_unknown_kind_of_sample_is_refused() -> None:
    from bayesunmix.config.run_config import RunConfig

    tables = {"sample": {"elements": ["Fe"]}, "phases": 1, "output": {"occurs_in": "superaloy"}}
    with pytest.raises(InputError, match=r"output\.occurs_in"):
        RunConfig.from_dict(tables)


def test_a_users_entry_is_found_and_replaces_one_of_its_name(tmp_path: Path) -> None:
    text = '[[compound]]\nname = "Mine"\nformula = "Fe3Ni2Al"\n'
    own = read_compounds({"compound": [{"name": "Mine", "formula": "Fe3Ni2Al"}]}, "mine")
    amounts = {"Fe": 3.0, "Ni": 2.0, "Al": 1.0}
    assert ask(amounts).none > 0.5
    assert ask(amounts, [*library(), *own]).candidates[0].compound.name == "Mine"
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("Mine", "Quartz"), encoding="utf-8")
    from bayesunmix.config.compounds import all_compounds

    entries = all_compounds(path)
    assert len(entries) == len(library())
    assert next(one for one in entries if one.name == "Quartz").formula == "Fe3Ni2Al"


@pytest.fixture(scope="module")
def result(made_result: Callable[..., Result]) -> Result:
    """Two phases of a superalloy, whose names were exchanged, and an element that is stray."""
    gamma = drawn({"Ni": 53, "Co": 17, "Cr": 19, "Al": 4.5, "W": 2.5, "Re": 3, "Ta": 0.5, "Ti": 0.2})[0]
    prime = drawn({"Ni": 69.5, "Co": 6.2, "Cr": 2.5, "Al": 15.5, "W": 1.9, "Re": 0.2, "Ta": 2.9, "Ti": 1.6})[
        0
    ]
    amounts = np.stack([prime, gamma], axis=1)[None]
    return made_result(amounts, ["gamma", "gamma prime"], ["Ni", "Co", "Cr", "Al", "W", "Re", "Ta", "Ti"])


def test_a_result_names_its_phases_on_demand(result: Result) -> None:
    table = result.names()
    assert result.record.names is None
    first = table[table["rank"] == 1]
    assert first["name"].tolist() == ["Gamma prime", "Gamma (nickel)"]
    assert (table.groupby("phase")["probability"].sum() > 0.95).all()
    assert (table["name"] == "none of these").sum() == 2
    # They are worked out once, and are those of the run when its record has been completed.
    assert result.with_record(result.record).tables.proposed() is result.tables.proposed()
    ranked = table.groupby("phase")["probability"].apply(lambda p: (np.diff(p) <= 0.0).all())
    assert ranked.all()
    assert result.names(occurs_in="superalloy").equals(result.names(occurs_in="superalloy"))
    with pytest.raises(InputError, match="occurs_in"):
        result.names(occurs_in="moon")


def test_an_unsupported_phase_and_a_support_get_no_name(result: Result) -> None:
    from bayesunmix.results.record_parts import Presence

    about = {"gain": 0.0, "gain_se": 1.0, "apart": 0.1, "shown": 0.1, "pure": 0.0, "like": {}}
    found = (Presence(phase="gamma", standing="unsupported", **about),)
    changed = result.with_record(result.record.model_copy(update={"presence": found}))
    vars(changed).pop("tables", None)
    assert set(changed.names()["phase"]) == {"gamma prime"}


def test_names_that_contradict_the_composition_are_said(result: Result) -> None:
    named = result.record.model_copy(update={"names": result.tables.proposed()})
    said = against_given(named, result.elements)
    assert len(said) == 2
    assert said[0].startswith("The phase called gamma has the composition of Gamma prime (probability ")
    right = tuple(
        one.model_copy(update={"phase": {"gamma": "gamma prime", "gamma prime": "gamma"}[one.phase]})
        for one in result.tables.proposed()
    )
    assert against_given(named.model_copy(update={"names": right}), result.elements) == []


def test_a_group_that_a_phase_is_called_by_is_told_by_its_name(result: Result) -> None:
    first = result.tables.proposed()[0]
    of_group = first.model_copy(update={"phase": "aluminium alloy phases"})
    record = result.record.model_copy(update={"names": (of_group,)})
    (said,) = against_given(record, result.elements)
    assert "not that of any aluminium alloy phases (0.00)" in said


def test_light_elements_are_not_required() -> None:
    assert {"O", "C", "N", "H", "Li"} <= set(LIGHT)
    found = ask({"Ni": 60, "Mn": 20, "Co": 20})
    assert found.candidates[0].compound.name == "NMC"
    assert found.candidates[0].unmeasured == ("Li", "O")


def test_the_public_table_has_the_documented_columns(result: Result) -> None:
    assert result.names().columns.tolist() == [
        "phase",
        "rank",
        "name",
        "member",
        "formula",
        "group",
        "probability",
        "unmeasured",
        "alike",
        "source",
    ]
