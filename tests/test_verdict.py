"""Sentences on what a run found, from made-up fits."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import pickle
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bayesunmix.checks.outcomes import (
    DiscrepancyEffect,
    DiscrepancyRegion,
    Goodness,
    ResidualRegion,
    ResidualScan,
    SpectralDiscrepancy,
)
from bayesunmix.chemistry.compounds import library
from bayesunmix.chemistry.given_names import GivenNames
from bayesunmix.config.phase import Phase
from bayesunmix.config.priors import Priors
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.core.severity import MODES, PLACES, Distrust, Doubt, Reservation
from bayesunmix.fit.statements import statements_on
from bayesunmix.models.statements import no_statements
from bayesunmix.results.declared import BROKEN_SDS, broken_statements, exchangeable
from bayesunmix.results.earlier_layouts import FORMAT
from bayesunmix.results.phase_doubts import left_open, too_few_photons
from bayesunmix.results.record import RunRecord
from bayesunmix.results.search_doubts import other_modes
from bayesunmix.results.spectra_doubts import misfit_of_spectra
from bayesunmix.results.verdict import Level, Verdict, judge

SD = 0.07

FloatArray = npt.NDArray[np.float64]


def sentences(mg: float, declared: str | None = "ABO3") -> list[str]:
    """Return what is said of MgSiO3 with so many Mg to one Si, its site ratio known beforehand to 7 %."""
    fractions = np.array([[mg / (1.0 + mg), 1.0 / (1.0 + mg)]])
    phases, elements = (Phase("Brg", stoichiometry=declared),), ("Mg", "Si")
    statements = statements_on(phases, elements, fractions[0], np.zeros(2), Priors(site_balance_sd=SD))
    setup: Any = SimpleNamespace(phases=phases, forward=SimpleNamespace(elements=elements))
    return broken_statements(setup, statements, fractions[None])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_sites_that_contradict_the_declaration_are_told(side: float) -> None:
    assert sentences(np.exp(side * (BROKEN_SDS - 0.1) * SD)) == []
    (said,) = sentences(np.exp(side * 4.0 * SD))
    assert said.startswith("Brg contradicts its declared formula ABO3")
    assert f"the ratio of Mg to Si is {np.exp(side * 4.0 * SD):.2f}, and that of the formula 1 " in said
    assert "4.0 standard deviations" in said


def test_nothing_is_said_of_what_was_not_declared() -> None:
    assert sentences(2.0, None) == []


def test_the_most_serious_finding_decides_and_stands_first() -> None:
    assert judge(["A default was assumed."]) == Verdict(Level.GOOD)
    said = [
        Reservation("A grain."),
        "A default was assumed.",
        Distrust("Two modes."),
        Reservation("A grain."),
    ]
    verdict = judge(said)
    assert verdict.level == "distrust"
    assert [finding.text for finding in verdict.findings] == ["Two modes.", "A grain."]
    assert judge(said[:2]).level == "reservations"
    assert judge(said[:2]).lines() == ["verdict: with reservations", "reservation: A grain."]


def test_a_verdict_is_what_was_recorded() -> None:
    verdict = judge([Reservation("A grain.", PLACES), Distrust("Two modes.")])
    config = {"inference": {"level": 0.95}, "phases": [{"name": "A"}]}
    run = {"format": FORMAT, "method": "map", "config": config, **verdict.to_dict()}
    assert RunRecord.of(json.loads(json.dumps(run))).judgement() == verdict


@pytest.mark.parametrize(("level", "status"), [("good", 0), ("reservations", 0), ("distrust", 3)])
def test_the_exit_status_follows_the_level(level: str, status: int) -> None:
    assert Level(level).exit_status == status


def test_findings_of_earlier_versions_are_about_the_rows_of_today() -> None:
    finding = {"severity": "reservation", "text": "A grain.", "about": "Places that do not fit"}
    config = {"inference": {"level": 0.95}, "phases": [{"name": "A"}]}
    run = {"method": "nuts", "config": config, "verdict": "reservations", "findings": [finding]}
    assert RunRecord.of(run).findings[0].about == PLACES


@pytest.mark.parametrize(
    ("said", "words", "lead"),
    [
        ([], "verdict: good", "Good."),
        (
            [Reservation("A <grain>.")],
            "verdict: with reservations\n  reservation: A <grain>.",
            "With reservations:",
        ),
        (
            [Distrust("Two modes.")],
            "verdict: not to be trusted\n  not to be trusted: Two modes.",
            "Not to be trusted:",
        ),
    ],
)
def test_a_verdict_shows_itself_in_words(said: list[str], words: str, lead: str) -> None:
    verdict = judge(said)
    assert repr(verdict) == str(verdict) == words
    page = verdict._repr_html_()
    assert lead in page
    assert all(html.escape(text) in page for text in said)
    assert f'class="verdict {verdict.level}"' in page


@pytest.mark.parametrize("kind", [Reservation, Distrust])
def test_a_doubt_is_text_that_keeps_its_weight(kind: type[Doubt]) -> None:
    doubt = kind("Two modes.", MODES)
    assert doubt == "Two modes."
    for copied in (copy.deepcopy(doubt), pickle.loads(pickle.dumps(doubt))):
        assert (type(copied), copied, copied.about) == (kind, doubt, MODES)
    with pytest.warns(BayesUnmixWarning, match="Two modes") as caught:
        warnings.warn(doubt, BayesUnmixWarning, stacklevel=1)
    assert isinstance(caught[0].message.args[0], kind)  # type: ignore[union-attr]


def modes(*nats: float) -> Any:  # noqa: ANN401 - a fit
    """Return a fit whose other modes lie so many nats above the best one, each richer in Si than the one before."""
    found = [
        SimpleNamespace(
            objective=value,
            followed=True,
            same_mode=not number,
            atom_fractions=np.array([[0.5 - 0.1 * number, 0.5 + 0.1 * number]]),
        )
        for number, value in enumerate((0.0, *nats))
    ]
    return SimpleNamespace(modes=found, data=SimpleNamespace(yields=np.ones((1, 2))))


def missed_by(_: object, fractions: FloatArray) -> FloatArray:
    """Return how far a stand-in's intervals miss something."""
    return np.abs(fractions - 0.5)


MISSED: Any = SimpleNamespace(missed=missed_by, second_share=0.0)
SETUP: Any = SimpleNamespace(phases=(Phase("Brg"),), forward=SimpleNamespace(elements=("Mg", "Si")))


@pytest.mark.parametrize(
    ("nats", "kind", "said"),
    [
        (
            (34.0,),
            Reservation,
            "10^15 by the counts and what was declared. It has 40 at% Mg in Brg where the best one has 50.",
        ),
        (
            (80.0, 34.0),
            Reservation,
            "odds of 1 to 10^15 by the counts and what was declared. It has 30 at% Mg",
        ),
        ((3.0,), Distrust, "its odds are 1 to 20. It has 40 at% Mg"),
    ],
)
def test_the_nearest_other_mode_is_told_once(nats: tuple[float, ...], kind: type[Doubt], said: str) -> None:
    (doubt,) = other_modes(SETUP, modes(*nats), MISSED)
    assert isinstance(doubt, kind)
    assert said in doubt
    assert ("1 more maximum was found" in doubt) == (len(nats) > 1)
    assert other_modes(SETUP, modes(150.0), MISSED) == []


@pytest.mark.parametrize(
    ("declared", "remedies"),
    [
        ({}, "an absent element of Brg, its formula or a matrix."),
        ({"matrix": True}, "an absent element of Brg or its formula."),
        ({"matrix": True, "stoichiometry": "ABO3"}, "the other: an absent element of Brg."),
    ],
)
def test_what_is_declared_is_not_asked_for(declared: dict[str, Any], remedies: str) -> None:
    setup: Any = SimpleNamespace(phases=(Phase("Brg", **declared),), forward=SETUP.forward)
    (doubt,) = other_modes(setup, modes(3.0), MISSED)
    assert doubt.endswith(remedies)


def test_a_mode_that_the_intervals_hold_is_no_reason_for_distrust() -> None:
    """One that they miss is told in its place, however far it lies."""
    held: Any = SimpleNamespace(
        missed=lambda at, fractions: missed_by(at, fractions) * (fractions[..., :1, :1] <= 0.35),
        second_share=0.0,
    )
    (said,) = other_modes(SETUP, modes(3.0), held)
    assert isinstance(said, Reservation)
    assert "The intervals include it." in said
    (said,) = other_modes(SETUP, modes(3.0, 4.0), held)
    assert isinstance(said, Distrust)
    assert "It has 30 at% Mg" in said


def left_open_of(upper: float, wider: float, **declared: Any) -> list[str]:  # noqa: ANN401
    """Return what is said of a phase that was rotated, by the end of its interval and how wide it has become."""

    def drawn(sd: float) -> Any:  # noqa: ANN401
        return SimpleNamespace(
            component_shares=np.array([[[[0.5 - sd, 0.5 + sd]]], [[[0.5 + sd, 0.5 - sd]]]]),
        )

    off = 0.01 * wider
    fractions = np.array([[[0.3 - off, 0.3, 0.4 + off]], [[0.3 + off, 0.3, 0.4 - off]]])

    rotations = SimpleNamespace(rotated=np.ones(1, bool))
    robust: Any = SimpleNamespace(
        rotations=rotations, own=drawn(0.01), drawn=SimpleNamespace(draws=drawn(0.01 * wider))
    )
    table = compositions(("CaPv", "Si", 0.2, upper, "true"), ("CaPv", "Ca", 0.3, 0.31, "true"))
    forward = SimpleNamespace(elements=("Si", "Ca", "Mg"))
    setup: Any = SimpleNamespace(phases=[Phase("CaPv", **declared)], forward=forward)
    return left_open(setup, fractions, table, robust, [])


def test_what_decides_is_told_of_a_phase_that_is_left_open() -> None:
    (said,) = left_open_of(0.47, 5.0)
    assert isinstance(said, Reservation)
    assert "it may hold 20 to 47 at% of Si" in said
    assert "its formula (`stoichiometry`)" in said
    # Silicon goes with magnesium, and calcium with neither.
    assert "how much Mg it has (`composition`)" in said
    (said,) = left_open_of(0.47, 5.0, stoichiometry="ABO3")
    assert "formula" not in said
    assert left_open_of(0.3, 5.0) == []
    assert left_open_of(0.47, 1.5) == []
    # Of one element there is nothing to be left open.
    assert left_open_of(1.0, 5.0, absent=["Ca", "Mg"]) == []


def test_starts_that_end_in_one_place_are_one_mode() -> None:
    fit = modes(3.0, 4.0, 20.0)
    fit.modes[2].atom_fractions = fit.modes[1].atom_fractions + np.array([0.004, -0.004])
    (doubt,) = other_modes(SETUP, fit, MISSED)
    assert "1 more maximum was found" in doubt


def spectra(
    total: float = 1.0,
    segments: float = 1.0,
    chances: tuple[float, ...] = (),
    elements: Sequence[tuple[str, ...]] = (),
) -> Goodness:
    regions = tuple(
        ResidualRegion(
            spectrum="Fp",
            low_keV=1.9,
            high_keV=2.1,
            energy_keV=2.0,
            sigma=-5.0 - i,
            excess_counts=-100.0,
            cause="line Si",
            chance=chance,
            elements=elements[i] if elements else (),
        )
        for i, chance in enumerate(chances)
    )
    scan = ResidualScan(
        threshold_sigma=4.0, regions_expected_of_noise=0.1, global_threshold_sigma=4.3, regions=regions
    )
    return Goodness(deviance_per_dof_total=total, deviance_per_dof_segments=segments, residuals=scan)


def test_counts_far_from_the_model_are_no_reservation() -> None:
    """A deviance grows with the counts: what decides is how many of them lie elsewhere."""
    fit = spectra(total=1900.0)
    (said,) = misfit_of_spectra(dataclasses.replace(fit, misplaced=0.02))
    assert isinstance(said, Reservation)
    (said,) = misfit_of_spectra(dataclasses.replace(fit, misplaced=0.08))
    assert isinstance(said, Distrust)
    assert "8 % of its counts lie elsewhere than the model has them" in said


def test_spectra_that_do_not_fit_are_told() -> None:
    assert misfit_of_spectra(spectra(chances=(0.2,))) == []
    assert len(misfit_of_spectra(spectra(total=1.6))) == len(misfit_of_spectra(spectra(segments=1.6))) == 1
    (said,) = misfit_of_spectra(spectra(chances=(1e-4, 1e-9, 0.2)))
    assert said.startswith("The spectra have significant residuals in 2 energy ranges")
    assert "the largest of 6 sigma at 2.00 keV in the spectrum of Fp (possible cause: line Si)" in said
    assert ". The intervals do not include this. " in said
    assert "`map.energy_range`" in said


def test_residuals_name_the_elements_whose_main_lines_they_touch() -> None:
    fit = spectra(chances=(1e-4, 1e-9, 0.2), elements=[("Al",), ("Re", "Al"), ("Ni",)])
    (said,) = misfit_of_spectra(fit)
    assert ". The intervals of Al and Re do not include this. " in said


def test_what_the_intervals_include_of_a_misfit_is_told() -> None:
    effects = [
        DiscrepancyEffect(phase="Brg", element=element, sd_ratio=ratio, shift=0.0)
        for element, ratio in (("U", 1.2), ("Si", 2.5))
    ]
    found = SpectralDiscrepancy(
        regions=(DiscrepancyRegion(low_keV=1.0, high_keV=2.0, percent=3.0),), quantities=tuple(effects)
    )
    (said,) = misfit_of_spectra(spectra(chances=(1e-4,), elements=[("Al",)]), found)
    assert (
        ". The intervals of Al include this, as far as an error that all phases have in common makes it"
        in said
    )
    assert "Si of Brg 2.5 times as uncertain" in said
    both = misfit_of_spectra(spectra(total=1.6, chances=(1e-4,)), found)
    assert [text.count("2.5 times") for text in both] == [1, 0]
    # Where nothing was widened, nothing is included.
    (said,) = misfit_of_spectra(spectra(total=1.6), SpectralDiscrepancy())
    assert ". The intervals do not include this. " in said


def compositions(*rows: tuple[str, str, float, float, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["phase", "element", "lower", "upper", "detected"])


def test_too_few_photons_are_one_sentence() -> None:
    """By their number, and by what the posterior says of them."""
    known = [("A", "Mg", 0.4, 0.5, "true"), ("A", "Si", 0.5, 0.6, "true")]
    unseen = [("B", "Mg", 0.0, 0.4, "false"), ("B", "Si", 0.0, 0.0, "declared_absent")]
    assert too_few_photons({"A": 5000.0}, compositions(*known)) == []
    few, nothing = too_few_photons({"A": 50.0, "B": 5000.0}, compositions(*known, *unseen))
    assert isinstance(few, Distrust)
    assert isinstance(nothing, Distrust)
    assert "say what a phase is made of: A (50 counts). " in few
    assert "No element is detected for certain in B (5,000 counts): " in nothing
    (few,) = too_few_photons({"B": 50.0}, compositions(*unseen))
    assert "B (50 counts, no element detected)" in few
    wide = compositions(("A", "Mg", 0.1, 0.9, "true"), ("A", "Si", 0.1, 0.9, "true"))
    (said,) = too_few_photons({"A": 5000.0}, wide)
    assert isinstance(said, Reservation)
    assert "Mg in A, 10 to 90 at%" in said
    point = compositions(("A", "Mg", np.nan, np.nan, ""))
    assert too_few_photons({"A": 5000.0}, point) == []


def named_apart(held: dict[str, str], **phases: Phase) -> list[str]:
    """Return what is said of phases in which so many elements are detected, as ``name: "Fe S"``."""
    rows = [(name, element, 0.3, 0.2, 0.4) for name, elements in held.items() for element in elements.split()]
    table = pd.DataFrame(rows, columns=["phase", "element", "mean", "lower", "upper"]).assign(detected="true")
    named = [dataclasses.replace(phase, name=name) for name, phase in phases.items()]
    elements = list(table["element"].unique())
    unknown = np.full(len(elements), 1.0 / len(elements))
    return exchangeable(named, table, statements_on(named, elements, unknown, 0.0 * unknown, Priors()))


def test_names_that_the_library_knows_are_told_apart_by_composition() -> None:
    elements, phases = ("Mg", "Fe", "Si"), [Phase("olivine"), Phase("quartz")]
    given = GivenNames.of(("olivine", "quartz"), library(), elements)

    def said(olivine: list[float], quartz: list[float]) -> list[str]:
        means = [*olivine, *quartz]
        table = pd.DataFrame({"phase": np.repeat(["olivine", "quartz"], 3), "element": 2 * elements})
        table = table.assign(mean=means, lower=means, upper=means, detected="true")
        return exchangeable(phases, table, no_statements(2, 3), given)

    assert said([0.6, 0.06, 0.34], [0.02, 0.0, 0.98]) == []
    # Names that are on the wrong phases are no less in an arbitrary order.
    assert len(said([0.02, 0.0, 0.98], [0.6, 0.06, 0.34])) == 1


def test_names_that_no_declaration_tells_apart_are_told() -> None:
    matrix, other = Phase("any", matrix=True), Phase("any", matrix=True, absent=["Mn"])
    held = {"olivine": "Mg Fe Mn", "pyroxene": "Ca Mg"}
    (said,) = named_apart(held, olivine=matrix, pyroxene=matrix)
    assert isinstance(said, Reservation)
    assert "The same is declared of olivine and pyroxene" in said
    assert named_apart(held, olivine=matrix, pyroxene=other) == []
    assert exchangeable([Phase("phase 1"), Phase("phase 2")], pd.DataFrame(), no_statements(2, 1)) == []


def test_names_that_fit_as_well_exchanged_are_told() -> None:
    """Three names may go round although no two of them can change places."""
    metal, sulfide, phosphide = Phase("any", matrix=True), Phase("any"), Phase("any", absent=["S"])
    (said,) = named_apart(
        {"metal": "Fe S", "sulfide": "Fe Ni P", "phosphide": "Fe Ni"},
        metal=metal,
        sulfide=sulfide,
        phosphide=phosphide,
    )
    assert "The names of metal, sulfide and phosphide may be exchanged" in said
    formula = dataclasses.replace(phosphide, stoichiometry="ABO3", absent=())
    assert named_apart({"a": "Fe S", "b": "Mg Si"}, a=metal, b=formula) == []
