"""Reference spectra of phases: from a file to soft statements, and what is said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2, multivariate_normal, norm

import bayesunmix as bu
from bayesunmix.analysis.declarations import _text
from bayesunmix.checks.declarations import given_more
from bayesunmix.checks.local_posterior import LocalPosterior, quadratic
from bayesunmix.config.reference import Reference, table_of
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.core.severity import Reservation
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.io import save, write_signal
from bayesunmix.fit.preparation import prepare, with_references
from bayesunmix.fit.reference_fit import ReferenceComposition, closed
from bayesunmix.fit.reference_spectrum import reference_image, reference_notes
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.statements import statements_on
from bayesunmix.models.statements import KEYS, missed, statements_log_density
from bayesunmix.report.words import assumptions
from bayesunmix.results.declared import BROKEN_SDS, broken_statements, in_one
from bayesunmix.results.record_parts import ReferenceSpectrum
from bayesunmix.results.recording import config_part
from bayesunmix.results.run_facts import run_facts
from bayesunmix.simulation.phantom import phantom_config

if TYPE_CHECKING:
    from bayesunmix.fit.posterior import FittedPosterior

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ("Mg", "Si", "Fe", "Ca")
A, B = {"Mg": 0.6, "Si": 0.3, "Fe": 0.1}, {"Si": 0.4, "Fe": 0.5, "Ca": 0.1}
RNG = np.random.default_rng(3)
WIDE = RNG.normal(size=(4, 4))
SPECTRUM = ReferenceComposition(
    phase="A",
    elements=ELEMENTS,
    atom_fractions=np.array([0.5, 0.3, 0.15, 0.05]),
    counting=np.zeros((4, 4)),
    covariance=1e-4 * (WIDE @ WIDE.T),
    counts=1000,
    deviance_per_dof=1.0,
)
NAMED = bu.Phase("A", reference="a.msa")


def stated(*phases: bu.Phase, spectrum: ReferenceComposition = SPECTRUM) -> Any:  # noqa: ANN401
    """Return the statements on phases of which a spectrum is known, with line strengths that are badly known."""
    calibration = np.full(len(ELEMENTS), 0.5)
    return statements_on(phases, ELEMENTS, np.full(4, 0.25), calibration, bu.Priors(), [spectrum])


def test_a_reference_is_a_normal_of_the_composition() -> None:
    """Errors of line strengths, which are common to map and spectrum, are no part of it."""
    statements = stated(NAMED, bu.Phase("B"))
    assert [KEYS[key] for key in statements.key] == ["reference"] * 3
    covariance = closed(SPECTRUM.covariance, SPECTRUM.atom_fractions)[:3, :3]
    expected = multivariate_normal(SPECTRUM.atom_fractions[:3], covariance)
    for _ in range(5):
        x = RNG.dirichlet(200.0 * SPECTRUM.atom_fractions)
        found = float(statements_log_density(statements, np.stack([x, RNG.dirichlet(np.ones(4))])))
        log_density = expected.logpdf(x[:3]) - expected.logpdf(SPECTRUM.atom_fractions[:3])
        assert found == pytest.approx(log_density, rel=1e-6)


def test_elements_without_lines_or_absent_are_left_open() -> None:
    seen = dataclasses.replace(
        SPECTRUM,
        elements=ELEMENTS[:3],
        atom_fractions=np.array([0.6, 0.3, 0.1]),
        counting=np.zeros((3, 3)),
        covariance=1e-4 * np.eye(3),
    )
    statements = stated(NAMED, spectrum=seen)
    for calcium in (0.0, 0.2):
        x = np.append((1.0 - calcium) * seen.atom_fractions, calcium)[None]
        np.testing.assert_allclose(missed(statements, x), 0.0, atol=1e-12)
    without = stated(dataclasses.replace(NAMED, absent=["Fe"]), spectrum=seen)
    np.testing.assert_allclose(missed(without, np.array([[2 / 3, 1 / 3, 0.0, 0.0]])), 0.0, atol=1e-9)
    assert np.abs(missed(without, np.array([[1 / 3, 2 / 3, 0.0, 0.0]]))).max() > 10.0
    assert not len(stated(bu.Phase("A")).key)
    assert not len(stated(bu.Phase("C", reference="a.msa")).key)


def test_several_statements_are_judged_as_one() -> None:
    assert in_one(np.array([2.0])) == pytest.approx(2.0)
    off = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    found = in_one(off)
    assert 2.0 * norm.sf(found[0]) == pytest.approx(chi2.sf(9.0, 3))
    assert found[1] == pytest.approx(0.0)
    assert in_one(np.array([300.0, 0.0])) == pytest.approx(300.0, rel=1e-3)


def test_a_phase_unlike_its_reference_is_told() -> None:
    statements = stated(NAMED, bu.Phase("B"))
    setup: Any = SimpleNamespace(
        phases=(NAMED, bu.Phase("B")), forward=SimpleNamespace(elements=ELEMENTS), references=(SPECTRUM,)
    )
    other = np.full(4, 0.25)
    assert broken_statements(setup, statements, np.stack([SPECTRUM.atom_fractions, other])[None]) == []
    (said,) = broken_statements(setup, statements, np.stack([[0.2, 0.2, 0.3, 0.3], other])[None])
    assert isinstance(said, Reservation)
    assert said.startswith("A contradicts its declared reference spectrum (a.msa): it has ")
    assert "standard deviations off" in said
    assert BROKEN_SDS > 2.0


def configured(**reference: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the configuration of a small map of two phases."""
    return {
        "sample": {
            "elements": list(ELEMENTS),
            "oxygen": "none",
            "thickness_nm": [80, 20],
            "density_g_cm3": [4.0, 0.3],
        },
        "instrument": {"beam_energy_keV": 200, "takeoff_angle_deg": 22, "resolution_eV": 130},
        "phases": [{"name": "A", "reference": reference} if reference else {"name": "A"}, {"name": "B"}],
    }


def drawn(abundances: FloatArray, counts: float, *, first: dict[str, float] = A, **plan: Any) -> Any:  # noqa: ANN401
    """Draw a map of the two phases, or a spectrum on the same instrument."""
    told = configured()
    for phase, made in zip(told["phases"], (first, B), strict=True):
        phase |= {"composition": made, "fraction": 0.5}
    plan = {"counts_per_pixel": counts, "channels": 900, "offset_keV": 0.5, "calibration_error": True} | plan
    return bu.simulate.simulate_map({**told, "simulate": plan}, seed=1, abundances=abundances)


ALONE = np.array([[[1.0, 0.0]]])


@pytest.fixture(scope="module")
def simulated() -> Any:  # noqa: ANN401
    """Draw 24 x 24 pixels that are mixtures everywhere."""
    share = np.random.default_rng(2).uniform(0.15, 0.85, (24, 24))
    return drawn(np.stack([share, 1.0 - share], axis=-1), 150)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spectra of the first phase in files: one as an instrument writes it, and a map of which the sum is meant."""
    work = tmp_path_factory.mktemp("spectra")
    image = drawn(ALONE, 2e5).image
    counts = image.sum_spectrum()
    lines = [
        "#FORMAT      : EMSA/MAS Spectral Data File",
        "#VERSION     : 1.0",
        "#TITLE       : grain",
        "#DATE        : 01-JAN-2026",
        "#TIME        : 12:00",
        "#OWNER       : nobody",
        f"#NPOINTS     : {len(counts)}",
        "#NCOLUMNS    : 1",
        "#XUNITS      : keV",
        "#YUNITS      : Counts",
        "#DATATYPE    : Y",
        f"#XPERCHAN    : {image.energy_step_keV:.6f}",
        f"#OFFSET      : {image.energy_keV[0]:.6f}",
        "#SIGNALTYPE  : EDS",
        "#BEAMKV      : 200.0",
        "#SPECTRUM    : Spectral Data Starts Here",
        *(f"{count}." for count in counts),
        "#ENDOFDATA   :",
    ]
    (work / "grain.msa").write_text("\n".join(lines) + "\n")
    halves = np.repeat(ALONE, 4, axis=1)
    save(drawn(halves, 5e4).image, work / "grain.hspy")
    return work


@pytest.fixture(scope="module")
def setup(simulated: Any) -> Setup:  # noqa: ANN401
    """Prepare the map, with no reference yet."""
    return prepare(simulated.image, RunConfig.from_dict(configured()))


def given(setup: Setup, absent: tuple[str, ...] = (), **reference: Any) -> Setup:  # noqa: ANN401
    """Return the map with a reference of the first phase."""
    told = configured(**reference)
    told["phases"][0]["absent"] = absent
    config = RunConfig.from_dict(told)
    return with_references(dataclasses.replace(setup, phases=config.phases), config)


def nominal(simulated: Any, composition: dict[str, float]) -> FloatArray:  # noqa: ANN401
    """Return what a composition looks like by nominal line strengths."""
    factors = [simulated.truth.line_factors[f"{element}_K"] for element in ELEMENTS]
    seen = np.array([composition.get(element, 0.0) for element in ELEMENTS]) * factors
    return np.asarray(seen / seen.sum())


@pytest.mark.parametrize("name", ["grain.msa", "grain.hspy"])
def test_a_file_gives_the_nominal_composition(simulated: Any, setup: Setup, folder: Path, name: str) -> None:  # noqa: ANN401
    told = given(setup, file=str(folder / name))
    (found,) = told.references
    assert found.phase == "A"
    assert 1e5 < found.counts <= 2.1e5
    assert found.deviance_per_dof < 1.5
    off = found.atom_fractions - nominal(simulated, A)
    # The film is off in thickness, which is in the whole width and not in that of counting.
    assert np.abs(off / found.sd).max() < 2.0
    assert np.abs(off).max() < 0.02
    # The true composition is another one: line strengths are off by 5 % each, for map and spectrum alike.
    assert np.abs(found.atom_fractions - [0.6, 0.3, 0.1, 0.0]).max() > 2.0 * np.abs(off).max()
    assert found.counting_sd[0] < 0.005 < found.sd[0]
    assert found.sd[3] == pytest.approx(0.005, rel=0.1)
    assert told.warnings == setup.warnings


def test_a_reference_says_what_map_and_spectrum_do_not_share(setup: Setup) -> None:
    spectrum = reference_image(Reference(**table_of(drawn(ALONE, 1e5).image)), "phases.A.reference")
    facts = setup.image.acquisition
    alike = spectrum.replace_facts(beam_energy_keV=200.0, takeoff_angle_deg=22.0)
    assert reference_notes("A", alike, facts, []) == []
    other = spectrum.replace_facts(beam_energy_keV=300.0, takeoff_angle_deg=35.0, microscope="SEM")
    notes = reference_notes("A", other, facts, ["Na"])
    assert [isinstance(one, Reservation) for one in notes] == [True] * 3
    assert "beam energy of 300 keV where the map's is 200" in notes[0]
    assert "take-off angle of 35 degrees where the map's is 22" in notes[0]
    assert "SEM" in notes[1]
    assert "lines of Na, which nobody declared" in notes[2]


def test_elements_that_are_absent_or_that_nobody_declared_are_told(setup: Setup) -> None:
    """The spectrum holds titanium, which the map does not."""
    told = {**configured(), "sample": {**configured()["sample"], "elements": [*ELEMENTS, "Ti"]}}
    for phase, made in zip(told["phases"], ({"Mg": 0.5, "Fe": 0.2, "Ti": 0.3}, B), strict=True):
        phase |= {"composition": made, "fraction": 0.5}
    plan = {"counts_per_pixel": 1e5, "channels": 900, "offset_keV": 0.5}
    spectrum = bu.simulate.simulate_map({**told, "simulate": plan}, seed=1, abundances=ALONE).image
    said = [one for one in given(setup, ("Fe",), **table_of(spectrum)).warnings if one not in setup.warnings]
    assert len(said) == 2
    assert "The reference spectrum of A shows lines of Ti, which nobody declared" in said[0]
    assert "at% Fe, declared absent from it" in said[1]


def test_few_counts_and_another_axis_and_thickness_are_its_own(simulated: Any, setup: Setup) -> None:  # noqa: ANN401
    axis = {"offset_keV": 0.9, "step_keV": 0.02, "channels": 300}
    many, few = (table_of(drawn(ALONE, counts, **axis).image) for counts in (2e5, 2e3))
    found = [given(setup, **one).references[0] for one in (many, few, many | {"thickness_nm": [2000, 20]})]
    assert np.abs(found[0].atom_fractions - nominal(simulated, A)).max() < 0.02
    assert found[1].counting_sd[0] == pytest.approx(10.0 * found[0].counting_sd[0], rel=0.4)
    assert np.abs(found[1].atom_fractions - found[0].atom_fractions)[0] < 4.0 * found[1].counting_sd[0]
    # Magnesium absorbs more of silicon's line than of its own: a thick film had more silicon.
    assert found[2].atom_fractions[1] > found[0].atom_fractions[1] + 0.01


@pytest.mark.parametrize(
    ("reference", "match"),
    [
        ({"file": "nowhere.msa"}, r"`phases\.A\.reference` must be an existing file"),
        ({"counts": [0] * 900, "energy_offset_keV": 0.5, "energy_scale_keV": 0.01}, r"phases\.A\.reference"),
        (
            {"counts": [1] * 100, "energy_offset_keV": 12.0, "energy_scale_keV": 0.01},
            r"phases\.A\.reference.*reach into the fitted energies",
        ),
        (
            {"counts": [1] * 60, "energy_offset_keV": 4.5, "energy_scale_keV": 0.01},
            r"phases\.A\.reference.*show lines",
        ),
        ({"counts": [1, 2]}, r"phases\.A\.reference\.energy_offset_keV.*be given"),
        ({"file": "a.msa", "counts": [1, 2]}, r"phases\.A\.reference.*name a file"),
        ({"tolerance": 0.1}, r"phases\.A\.reference.*name a file"),
        ({"file": "a.msa", "tolerance": 5}, r"phases\.A\.reference\.tolerance.*0\.05 for 5 %"),
        ({"fil": "a.msa"}, r"phases\.A\.reference\.fil.*unknown"),
    ],
)
def test_what_is_no_reference_is_refused(setup: Setup, reference: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        given(setup, **reference)


def test_a_picture_is_no_spectrum(setup: Setup, tmp_path: Path) -> None:
    axes = [
        {"_type": "UniformDataAxis", "name": name, "size": 4, "scale": 1.0, "offset": 0.0, "navigate": False}
        for name in "yx"
    ]
    picture = {"data": np.ones((4, 4)), "axes": axes, "metadata": {"General": {"title": "HAADF"}}}
    write_signal(tmp_path / "picture.hspy", picture)
    with pytest.raises(InputError, match=r"`phases\.A\.reference` must hold a spectrum image"):
        given(setup, file=str(tmp_path / "picture.hspy"))


def test_python_takes_spectra_in_any_form() -> None:
    image = drawn(ALONE, 1000).image
    counts, energy = image.sum_spectrum(), image.energy_keV
    found = [
        bu.Phase("A", reference=form).reference
        for form in (image, image.to_signal(), (counts, energy), (counts[None, None], energy))
    ]
    for one in found:
        assert one is not None
        assert one.counts == tuple(counts.tolist())
        assert one.energy_offset_keV == pytest.approx(0.5)
    assert found[0] is not None
    assert found[0].beam_energy_keV == 200.0
    config = RunConfig.from_dict(configured(**table_of(image)))
    assert RunConfig.from_dict(config.to_dict()) == config
    assert _text(counts.tolist()).startswith(f"900 numbers of sum {counts.sum():g} (checksum ")
    assert _text(counts.tolist()) != _text(counts[::-1].tolist())
    with pytest.raises(InputError, match=r"phases\.A\.reference.*name of a file, or a table.*is 3"):
        bu.Phase("A", reference=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reference` must be left out for a support"):
        bu.Phase("A", reference="a.msa", kind="support")


def test_a_file_is_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    for form in ("a.msa", {"file": "a.msa", "signal": 1}):
        told = configured()
        told["phases"][0]["reference"] = form
        config = RunConfig.from_dict(told, folder=tmp_path)
        assert config.phases[0].reference.file == tmp_path / "a.msa"  # type: ignore[union-attr]


def test_another_spectrum_is_another_run(simulated: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """What was read counts, not the file that was named: the counts of some formats lie beside it."""
    import hyperspy.api as hs

    found = []
    for counts in (3000, 4000):
        save(drawn(ALONE, counts).image, tmp_path / "a.hspy")
        hs.load(tmp_path / "a.hspy").save(tmp_path / "a.rpl", overwrite=True)
        config = RunConfig.from_dict(
            configured(file=str(tmp_path / "a.rpl"), energy_offset_keV=0.5, energy_scale_keV=0.01)
        )
        found.append(run_facts(prepare(simulated.image, config), config, 0)["references"])
    assert found[0] != found[1]


def test_what_a_reference_hardly_holds_is_no_statement(setup: Setup) -> None:
    """All that the spectrum shows is declared absent: of the rest it says nothing, and the contradiction is told."""
    spectrum = table_of(drawn(ALONE, 2e5, first={"Mg": 0.7, "Fe": 0.3}).image)
    found = given(setup, ("Mg", "Fe"), **spectrum)
    rows = statements_on(
        found.phases,
        found.forward.elements,
        found.mean_composition,
        found.forward.calibration_sd,
        found.widths,
        found.references,
    )
    assert all(np.isfinite(np.asarray(field)).all() for field in rows if np.asarray(field).dtype.kind == "f")
    assert any("declared absent from it" in one for one in found.warnings)


def test_a_spectrum_of_no_lines_of_the_elements_is_told(setup: Setup) -> None:
    spectrum = table_of(drawn(ALONE, 2e5).image)
    upside_down = {**spectrum, "counts": tuple(reversed(spectrum["counts"]))}
    said = [one for one in given(setup, **upside_down).warnings if "not explained by lines" in one]
    assert len(said) == 1
    assert not any("not explained by lines" in one for one in given(setup, **spectrum).warnings)


@pytest.mark.parametrize(("counts", "told"), [(10, True), (3000, False)])
def test_a_spectrum_of_few_counts_says_little(setup: Setup, counts: int, told: bool) -> None:
    spectrum = table_of(drawn(ALONE, 2e5).image)
    shares = np.array(spectrum["counts"]) / sum(spectrum["counts"])
    few = np.random.default_rng(1).multinomial(counts, shares)
    said = given(setup, **{**spectrum, "counts": tuple(few.tolist())}).warnings
    assert any("says little: its" in one for one in said) == told


def test_a_spectrum_that_shows_nothing_is_refused_with_its_counts(setup: Setup) -> None:
    spectrum = table_of(drawn(ALONE, 2e5).image)
    one = np.zeros(len(spectrum["counts"]), int)
    one[-100] = 1
    with pytest.raises(
        InputError, match=r"shows none with 1 count in the fitted energies\. Some 3000 counts"
    ):
        given(setup, **{**spectrum, "counts": tuple(one.tolist())})


def test_arrays_of_any_library_are_spectra_and_pairs_of_spectra_are_not() -> None:
    import dask.array as da
    import xarray as xr

    image = drawn(ALONE, 1000).image
    counts, energy = image.sum_spectrum(), image.energy_keV
    plain = bu.Phase("A", reference=(counts, energy))
    lazy = da.from_array(counts)
    assert bu.Phase("A", reference=(lazy, da.from_array(energy))) == plain
    assert bu.Phase("A", reference=(xr.DataArray(counts), energy)) == plain
    table = {"energy_offset_keV": energy[0], "energy_scale_keV": image.energy_step_keV}
    assert bu.Phase("A", reference={"counts": lazy, **table}).reference == Reference(
        counts=tuple(counts.tolist()), **table
    )
    refused: list[tuple[Any, str]] = [
        ((image, image), r"is a map and a map\. Write \(counts, energy_keV\)"),
        ((image.to_signal(), energy), "is a HyperSpy signal and an array"),
        (lazy, "is counts alone"),
        (([[1.0, 2.0], [3.0]], [1.0, 2.0]), "a pair of counts and energies, but is an array and an array"),
        ((counts, counts), r"must ascend.*Write \(counts, energy_keV\)"),
        ((counts, energy[:-1]), r"one channel centre.*Write \(counts, energy_keV\)"),
    ]
    for given_, message in refused:
        with pytest.raises(InputError, match=message):
            bu.Phase("A", reference=given_)


@pytest.mark.parametrize("off", [0.1, -0.1])
def test_an_axis_that_is_filed_wrong_is_put_right_where_it_ends_early(setup: Setup, off: float) -> None:
    spectrum = table_of(drawn(ALONE, 2e5, channels=400).image)
    moved = {**spectrum, "energy_offset_keV": spectrum["energy_offset_keV"] + off}
    found, right = (given(setup, **one).references[0] for one in (moved, spectrum))
    np.testing.assert_allclose(found.atom_fractions, right.atom_fractions, atol=0.02)


def test_facts_that_a_library_filled_in_are_none() -> None:
    image = drawn(ALONE, 1000).image
    filled = dataclasses.replace(
        image,
        acquisition=Acquisition(takeoff_angle_deg=35.0, beam_energy_keV=200.0).from_source(
            "library default", ["takeoff_angle_deg"]
        ),
    )
    assert "takeoff_angle_deg" not in table_of(filled)
    assert table_of(filled)["beam_energy_keV"] == 200.0


def test_a_reference_is_in_the_report() -> None:
    part = ReferenceSpectrum(
        phase="A",
        counts=12345,
        deviance_per_dof=1.0,
        atom_fractions={"Mg": 0.6, "Si": 0.4, "Fe": -0.001},
        counting_sd=dict.fromkeys(("Mg", "Si", "Fe"), 0.002),
        sd=dict.fromkeys(("Mg", "Si", "Fe"), 0.02),
    )
    config = config_part(RunConfig.from_dict(configured(file="data/a.msa")))
    result: Any = SimpleNamespace(record=SimpleNamespace(config=config, references=(part,)))
    said = assumptions(result)
    assert "A has the composition of the reference spectrum a.msa (declared, a soft prior)." in said
    assert (
        "The reference spectrum of A (12,345 counts) has 60 ± 2 at% Mg and 40 ± 2 at% Si, by the line strengths by "
        "which the map is read."
    ) in said


def test_a_reference_is_what_would_help(small_fit: FittedPosterior) -> None:
    """It is as good as knowing the whole composition of the phase to its tolerance."""
    local = LocalPosterior.of(small_fit)
    phases = [bu.Phase("Brg", matrix=True), bu.Phase("Fp"), bu.Phase("CaPv")]
    elements = phantom_config().sample.elements
    more = given_more(local, phases, elements, local.atom_fractions > 0.0, np.full(len(elements), 0.05))
    before = quadratic(local.slopes(), local.covariance[local.lines, local.lines])
    for k, phase in enumerate(phases):
        (change,) = [one for one in more if one.phase == phase.name and "reference" in one.declaration]
        assert change.declaration == 'reference = "FILE"'
        assert change.elements == elements
        assert (change.variance <= before * (1.0 + 1e-9)).all()
        x = local.atom_fractions[k]
        # Each amount is known at least as well as the spectrum alone says.
        covariance = closed(np.diag((0.05 * np.maximum(x, 0.1)) ** 2), x)
        assert (change.variance[k] <= np.diag(covariance) * (1.0 + 1e-6)).all()


def run(simulated: Any, spectrum: Any) -> Any:  # noqa: ANN401
    """Unmix the map with a spectrum of the first phase."""
    told = configured()
    return bu.unmix(
        simulated.image,
        elements=list(ELEMENTS),
        sample={key: value for key, value in told["sample"].items() if key != "elements"},
        instrument=told["instrument"],
        phases=[bu.Phase("B"), bu.Phase("A", reference=spectrum)],
        method="laplace",
        progress=False,
    )


@pytest.mark.calibration
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_a_reference_names_its_phase(simulated: Any) -> None:  # noqa: ANN401
    """Two phases that are pure nowhere: the spectrum says which of them is A, and narrows it."""
    result = run(simulated, drawn(ALONE, 2e5).image)
    table = result.summary().set_index(["phase", "element"])
    for element, amount in A.items():
        mean, sd = table.loc[("A", element), ["mean", "sd"]]
        assert abs(mean - amount) < 3.0 * sd
    assert table.loc[("A", "Mg"), "mean"] > 0.5 > 0.2 > table.loc[("B", "Mg"), "mean"]
    assert "contradicts" not in " ".join(one.text for one in result.verdict.findings)
    told = " ".join(assumptions(result))
    assert "A has the composition of a reference spectrum (declared, a soft prior)." in told
    assert "The reference spectrum of A (" in told
    (found,) = result.record.references
    assert found.atom_fractions["Mg"] == pytest.approx(nominal(simulated, A)[0], abs=0.02)
    pinned = result.tables.identifiability()["pinned_by"].dropna()
    assert any("reference" in one for one in pinned)


@pytest.mark.calibration
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_a_reference_of_something_else_is_told(simulated: Any) -> None:  # noqa: ANN401
    other = {"Mg": 0.1, "Si": 0.2, "Fe": 0.1, "Ca": 0.6}
    result = run(simulated, drawn(ALONE, 2e5, first=other).image)
    assert "A contradicts its declared reference" in " ".join(one.text for one in result.verdict.findings)


@pytest.mark.calibration
@pytest.mark.parametrize(
    ("chemistry", "phase"), [("basalt", "plagioclase"), ("sulfides", "pentlandite"), ("superalloy", "TCP")]
)
@pytest.mark.parametrize("counts", [3e3, 3e5])
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_the_error_of_counting_is_what_it_says(
    load: Callable[[str], ModuleType], chemistry: str, phase: str, counts: float
) -> None:
    """Line strengths and film are nominal: what scatters is counting, by as much as the covariance says."""
    open_maps = load("open_maps")
    sample = open_maps.CHEMISTRIES[chemistry]
    told = open_maps.declaration(chemistry, "matrix")
    for one, made, part in zip(told["phases"], sample.phases.values(), sample.fractions, strict=True):
        one |= {"composition": made, "fraction": part}
    alone = np.array([[[float(name == phase) for name in sample.phases]]])
    plan = {"counts_per_pixel": counts, "stray": dict.fromkeys(sample.stray, 0.03)}
    config = RunConfig.from_dict(open_maps.declaration(chemistry, "nothing") | {"phases": 1})
    spectra = [
        bu.simulate.simulate_map({**told, "simulate": plan}, seed, abundances=alone).image
        for seed in range(12)
    ]
    setup, inside, squares = prepare(spectra[0], config), [], []
    for image in spectra:
        named = dataclasses.replace(config, phases=(bu.Phase("phase 1", reference=table_of(image)),))
        (found,) = with_references(dataclasses.replace(setup, phases=named.phases), named).references
        off = found.atom_fractions - [sample.phases[phase].get(element, 0.0) for element in found.elements]
        inside += (np.abs(off) < 1.96 * found.counting_sd).tolist()
        values, axes = np.linalg.eigh(closed(found.counting, found.atom_fractions))
        squares.append(float(((axes.T[1:] @ off) ** 2 / values[1:]).sum() / (len(off) - 1)))
    assert np.mean(inside) > 0.9
    # The shape of the spectrum is known better than its priors say, since it was drawn from nominal ones.
    assert 0.4 < np.mean(squares) < 1.5
