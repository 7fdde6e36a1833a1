"""Results side by side: common factors cancel, bounds stay bounds, and what cannot be compared is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from scipy.stats import norm, truncnorm

import bayesunmix as bu
from bayesunmix.analysis.common_draws import ratio_kind
from bayesunmix.analysis.shared_calibration import nominal_draws
from bayesunmix.cli import main
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.core.output_folder import names_of
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Maker = Callable[..., Result]

PHASES, ELEMENTS = ("Brg", "CaPv"), ("Mg", "Si", "Fe", "U")
TRUE = np.array([[0.5, 0.45, 0.048, 0.002], [0.1, 0.7, 0.1, 0.1]])
SD = (0.05, 0.05, 0.05, 0.2)
SHAPE = (2, 500)


def drawn(true: FloatArray, relative: float, seed: int) -> FloatArray:
    """Draw amounts with a relative error, independent."""
    rng = np.random.default_rng(seed)
    return np.asarray(true * np.exp(relative * rng.normal(size=(*SHAPE, *true.shape))))


def row(table, **keys: str):  # noqa: ANN001, ANN201 - a row of a table
    for name, value in keys.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_a_common_factor_cancels_and_another_does_not(made_result: Maker) -> None:
    """The same counts twice: nothing is left of common factors, sqrt(2) sd of independent ones."""
    exact = drawn(TRUE, 1e-5, 9)
    first = made_result(exact, PHASES, ELEMENTS, sd=SD, seed=1)
    second = made_result(exact, PHASES, ELEMENTS, sd=SD, seed=2)
    table = bu.compare([first, second]).tables.composition_differences()
    np.testing.assert_allclose(table[["ratio_lower", "ratio_upper"]], 1.0, rtol=1e-4)
    np.testing.assert_allclose(table[["difference_lower", "difference_upper"]], 0.0, atol=1e-4)
    for other in ({"family": ["K", "K", "K", "L"]}, {"xray": {"k_factors": {"U_Ka": [1.0, 0.2]}}}):
        unlike = made_result(exact, PHASES, ELEMENTS, sd=SD, seed=2, **other)
        found = row(bu.compare([first, unlike]).tables.composition_differences(), phase="Brg", element="U")
        expected = np.sqrt(2.0) * 0.2 * norm.ppf(0.975)
        # A trace hardly enters its own normalisation.
        assert np.log(found["ratio_upper"]) == pytest.approx(expected, rel=0.05)
        assert found["prob_first_above_second"] == pytest.approx(0.5, abs=0.03)
        iron = row(bu.compare([first, unlike]).tables.composition_differences(), phase="Brg", element="Fe")
        assert np.log(iron["ratio_upper"]) < 0.01


def test_draws_taken_as_they_are_would_be_too_wide(made_result: Maker) -> None:
    """Counting errors of 2 % under factors of 20 %: the interval is that of counting."""
    pair = [made_result(drawn(TRUE, 0.02, s), PHASES, ELEMENTS, sd=SD, seed=s) for s in (1, 2)]
    found = row(bu.compare(pair).tables.composition_differences(), phase="Brg", element="U")
    # A trace has its own error and that of the sum of all.
    error = 0.02 * np.sqrt(1.0 + (TRUE[0] ** 2).sum())
    width = np.log(found["ratio_upper"] / found["ratio_lower"])
    assert width == pytest.approx(2 * norm.ppf(0.975) * np.sqrt(2) * error, rel=0.1)


def test_every_result_keeps_its_own_interval(made_result: Maker) -> None:
    result = made_result(drawn(TRUE, 0.03, 5), PHASES, ELEMENTS, sd=SD, seed=3)
    other = made_result(drawn(TRUE, 0.03, 6), PHASES, ELEMENTS, sd=SD, seed=4)
    joined = bu.compare([result, other]).composition().isel(result=0)
    own = result.composition().stack(all=("chain", "draw")).transpose("all", "phase", "element")
    level = [0.025, 0.5, 0.975]
    width = np.ptp(np.quantile(own, level, axis=0), axis=0)
    off = np.abs(np.quantile(joined, level, axis=0) - np.quantile(own, level, axis=0)) / width
    assert off.max() < 0.12  # four standard errors of an outer quantile of a thousand draws
    np.testing.assert_allclose(joined.sum("element"), 1.0)


def test_factors_are_taken_out_exactly(made_result: Maker) -> None:
    amounts = drawn(TRUE, 0.1, 7)
    found = nominal_draws(made_result(amounts, PHASES, ELEMENTS, sd=SD))
    expected = (amounts / amounts.sum(axis=-1, keepdims=True)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_factors_the_draws_are_independent_and_it_says_so(made_result: Maker) -> None:
    old = made_result(drawn(TRUE, 0.02, 1), PHASES, ELEMENTS, sd=SD, seed=1)
    old.tree["posterior"] = old.tree["posterior"].to_dataset().drop_vars("log_calibration")
    new = made_result(drawn(TRUE, 0.02, 2), PHASES, ELEMENTS, sd=SD, seed=2)
    with pytest.warns(BayesUnmixWarning, match="holds no calibration factors"):
        found = row(bu.compare([old, new]).tables.composition_differences(), phase="Brg", element="U")
    assert np.log(found["ratio_upper"]) == pytest.approx(np.sqrt(2.0) * 0.2 * 1.96, rel=0.1)


def test_a_difference_that_is_there_is_found(made_result: Maker) -> None:
    more = TRUE.copy()
    more[1, 3] *= 1.5
    pair = [
        made_result(drawn(x, 0.05, s), PHASES, ELEMENTS, sd=SD, seed=s) for s, x in enumerate((more, TRUE))
    ]
    comparison = bu.compare(pair, names=["hot", "cold"])
    found = row(comparison.tables.partition_ratios(), numerator="CaPv", denominator="Brg", element="U")
    assert (found["first"], found["second"], found["kind"]) == ("hot", "cold", "interval")
    assert found["ratio_lower"] < 1.5 / (1.05) < found["ratio_upper"]
    assert found["prob_first_above_second"] > 0.99
    back = row(comparison.tables.partition_ratios(), numerator="Brg", denominator="CaPv", element="U")
    assert back["ratio"] == pytest.approx(1 / found["ratio"], rel=1e-3)
    assert back["prob_first_above_second"] == pytest.approx(1 - found["prob_first_above_second"])
    d = comparison.partition("CaPv", "Brg")
    assert d.dims == ("result", "draw", "element")
    np.testing.assert_array_equal(d["result"], ["hot", "cold"])


def lost(seed: int, phase: int) -> FloatArray:
    """Draw amounts in one phase of which U is not detected: a normal around nothing, truncated at zero."""
    amounts = drawn(TRUE, 0.02, seed)
    truncated = truncnorm(0.0, np.inf, 0.0, 1e-3).rvs(SHAPE, random_state=np.random.default_rng(seed))
    amounts[:, :, phase, 3] = truncated
    return amounts


def test_what_was_not_detected_gives_a_bound(made_result: Maker) -> None:
    found, gone = drawn(TRUE, 0.02, 1), lost(2, 1)
    results = [
        made_result(x, PHASES, ELEMENTS, sd=SD, seed=s) for s, x in enumerate((found, gone, lost(3, 1)))
    ]
    comparison = bu.compare(results, names=["a", "b", "c"])
    table = comparison.tables.composition_differences()
    lower = row(table, phase="CaPv", element="U", first="a", second="b")
    assert (lower["kind"], lower["ratio_upper"]) == ("lower", np.inf)
    assert np.isnan(lower["ratio"])
    assert lower["ratio_lower"] > 10
    assert lower["difference_lower"] > 0
    neither = row(table, phase="CaPv", element="U", first="b", second="c")
    assert neither["kind"] == "undetermined"
    assert np.isnan(
        neither[["ratio", "ratio_upper", "difference", "prob_first_above_second"]].astype(float)
    ).all()
    ratios = comparison.tables.partition_ratios()
    up = row(ratios, numerator="CaPv", denominator="Brg", element="U", first="a", second="b")
    down = row(ratios, numerator="Brg", denominator="CaPv", element="U", first="a", second="b")
    assert (up["kind"], down["kind"]) == ("lower", "upper")
    assert down["ratio_upper"] == pytest.approx(1 / up["ratio_lower"], rel=1e-4)


def test_a_ratio_needs_amounts_that_are_resolved(made_result: Maker) -> None:
    """Two standard deviations above zero: detected, but the ratio of noise that passed for a signal is no interval."""
    clear = drawn(TRUE, 0.02, 1)
    faint = drawn(TRUE, 0.02, 2)
    faint[:, :, 1, 3] = truncnorm(-2.0, np.inf, 2e-3, 1e-3).rvs(SHAPE, random_state=np.random.default_rng(2))
    results = [made_result(x, PHASES, ELEMENTS, sd=SD, seed=s) for s, x in enumerate((clear, faint))]
    assert results[1].summary().set_index(["phase", "element"]).loc[("CaPv", "U"), "detected"] == "true"
    comparison = bu.compare(results, names=["a", "b"])
    place = ELEMENTS.index("U")
    assert comparison.partition_kinds("CaPv", "Brg")[:, place].tolist() == ["interval", "upper"]
    assert comparison.partition_kinds("CaPv", "Brg", detected=True)[:, place].tolist() == ["interval"] * 2
    ratio = row(comparison.tables.partition_ratios(), numerator="CaPv", denominator="Brg", element="U")
    assert (ratio["kind"], ratio["ratio_upper"]) == ("lower", np.inf)


def test_kinds_of_ratios() -> None:
    kinds = ("interval", "upper", "lower", "undetermined")
    table = [[ratio_kind(top, bottom) for bottom in kinds] for top in kinds]
    assert table == [
        ["interval", "lower", "upper", "undetermined"],
        ["upper", "undetermined", "upper", "undetermined"],
        ["lower", "lower", "undetermined", "undetermined"],
        ["undetermined"] * 4,
    ]


def test_order_of_elements_and_further_phases_do_not_matter(made_result: Maker) -> None:
    exact = drawn(TRUE, 1e-5, 9)
    first = made_result(exact, PHASES, ELEMENTS, sd=SD)
    turned = made_result(exact[:, :, ::-1, ::-1], PHASES[::-1], ELEMENTS[::-1], sd=SD[::-1])
    comparison = bu.compare([first, turned])
    np.testing.assert_allclose(comparison.draws[0], comparison.draws[1], rtol=1e-3)
    assert comparison.phases == PHASES
    alone = bu.compare([first, turned], phases=["CaPv"])
    assert set(alone.tables.compositions()["phase"]) == {"CaPv"}
    assert alone.tables.partition_ratios().empty


def simple(made_result: Maker, **changes: object) -> Result:
    exact = drawn(TRUE, 1e-5, 9)
    return made_result(exact, changes.get("phases", PHASES), changes.get("elements", ELEMENTS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"covariate": {"P": [1, 2]}},
            "`covariate.P` must have one value for each of the 3 results, but has 2",
        ),
        ({"covariate": {"P": [1, 1, 1]}}, "`covariate.P` must vary between the results, but is 1 for all"),
        ({"covariate": {"P": [1, 2, None]}}, "`covariate.P` must be a finite number"),
        ({"covariate": {"P": [1, 2, 3], "T": [1, 2, 3]}}, "`covariate` must be one name with its values"),
        ({"phases": ["Fp"]}, r"`phases \(1\)` must be one of the phases Brg, CaPv, but is \"Fp\""),
        ({"names": ["a", "b"]}, "`names` must be 3, one for each result, but there are 2"),
        ({"names": ["a", "b", "a"]}, "`names` must differ from each other"),
        ({"level": 95}, "`level` must lie between 0 and 1"),
        ({"pool": True, "scatter": -1.0}, "`scatter` must be positive"),
        ({"pool": True, "phases": ["Brg"]}, "`phases` must be at least two for partition coefficients"),
    ],
)
def test_refused(made_result: Maker, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bu.compare([simple(made_result) for _ in range(3)], **options)


def test_a_run_is_not_compared_with_itself(made_result: Maker, tmp_path: Path) -> None:
    first = simple(made_result)
    with pytest.raises(InputError, match="`results` must be of different runs, but 3 is 1 once more"):
        bu.compare([first, made_result(drawn(TRUE, 1e-5, 8), PHASES, ELEMENTS), first])
    # A folder that is opened twice, or copied, holds the same draws of the same counts.
    opened = [simple(made_result) for _ in range(2)]
    opened = [one.with_record(one.record.model_copy(update={"hash": "abc"})) for one in opened]
    with pytest.raises(InputError, match="must be of different runs, but b is a once more"):
        bu.compare(opened, names=["a", "b"])
    other = opened[1].with_record(opened[1].record.model_copy(update={"hash": "def"}))
    assert bu.compare([opened[0], other], names=["a", "b"]).names == ("a", "b")


def test_a_comparison_is_not_written_into_a_run(made_result: Maker, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    comparison = bu.compare([simple(made_result), simple(made_result)])
    with pytest.raises(InputError, match="`folder` must lie outside the output folders of runs"):
        comparison.save(tmp_path, overwrite=True)
    with pytest.raises(InputError, match=r'runs, but ".*more" lies in ".*"'):
        comparison.save(tmp_path / "some" / "more")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_results_that_cannot_be_compared_are_refused(made_result: Maker) -> None:
    first = simple(made_result)
    with pytest.raises(InputError, match="`results` must be at least two, but there is 1"):
        bu.compare([first])
    with pytest.raises(
        InputError, match=r"`results` must have the same elements.*Mg, Si, Fe, U.*2 has Hf too and 2 lacks U"
    ):
        bu.compare([first, simple(made_result, elements=("Mg", "Si", "Fe", "Hf"))])
    with pytest.raises(InputError, match=r"have a phase in common.*1: Brg, CaPv; 2: A, B"):
        bu.compare([first, simple(made_result, phases=("A", "B"))])
    with pytest.raises(InputError, match=r"covariate.*at least three results"):
        bu.compare([first, simple(made_result)], covariate=[1.0, 2.0])
    point = made_result(TRUE[None, None], PHASES, ELEMENTS)
    with pytest.raises(InputError, match='hold posterior draws, but 2 has one: it was run with method "map"'):
        bu.compare([first, point])
    comparison = bu.compare([first, simple(made_result)])
    with pytest.raises(InputError, match="`numerator` must be one of the phases"):
        comparison.partition("Fp", "Brg")


def write(result: Result, folder: Path) -> str:
    folder.mkdir()
    result.tree.to_netcdf(folder / "posterior.nc", engine="h5netcdf")
    (folder / "run.json").write_text(json.dumps(result.record.to_dict()))
    return str(folder)


def test_command_writes_tables_figures_and_a_page(made_result: Maker, tmp_path: Path) -> None:
    amounts = (drawn(TRUE, 0.05, 1), lost(2, 1), lost(3, 0))
    folders = [
        write(made_result(x, PHASES, ELEMENTS, sd=SD, seed=s), tmp_path / name)
        for s, (name, x) in enumerate(zip("abc", amounts, strict=True))
    ]
    out = tmp_path / "out"
    finished = CliRunner().invoke(main, ["compare", *folders, "--out", str(out)])
    assert finished.exit_code == 0, finished.stderr
    names = {"compositions", "partitions", "composition_differences", "partition_ratios"}
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.csv" for name in names),
        "figures",
        "comparison.html",
        "comparison.json",
    }
    assert {path.name for path in (out / "figures").iterdir()} == {"comparison.png", "comparison.pdf"}
    record = json.loads((out / "comparison.json").read_text())
    assert [entry["name"] for entry in record["results"]] == ["a", "b", "c"]
    page = (out / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "partition_ratios.csv" in page
    again = CliRunner().invoke(main, ["compare", *folders, "--out", str(out)])
    assert again.exit_code == 2
    assert "is not empty" in again.stderr
    assert CliRunner().invoke(main, ["compare", *folders, "--out", str(out), "--overwrite"]).exit_code == 0


def test_a_comparison_that_cannot_be_written_leaves_the_old_one(
    made_result: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [made_result(drawn(TRUE, 0.05, seed), PHASES, ELEMENTS, sd=SD, seed=seed) for seed in (0, 1)]
    out = bu.compare(results).save(tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("bayesunmix.report.comparison_files._write_figures", full)
        with pytest.raises(OSError, match="No space left"):
            bu.compare(results[::-1]).save(out, overwrite=True)
    assert {path: path.read_bytes() for path in before} == before
    bu.compare(results[::-1]).save(out, overwrite=True)
    assert set(names_of(out)) == {str(path.relative_to(out)) for path in before}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--covariate", "P=1,2"], "`covariate.P` must have one value for each of the 3 results"),
        (["--covariate", "P=1,x,3"], '`--covariate` must be a name and numbers .* but is "P=1,x,3"'),
        (["--phases", "Brg,Fp"], 'must be one of the phases Brg, CaPv, but is "Fp"'),
    ],
)
def test_command_refuses(made_result: Maker, tmp_path: Path, extra: list[str], message: str) -> None:
    folders = [write(simple(made_result), tmp_path / name) for name in "abc"]
    out = tmp_path / "out"
    finished = CliRunner().invoke(main, ["compare", *folders, "--out", str(out), *extra])
    assert finished.exit_code == 2
    assert len(finished.stderr.splitlines()) == 1
    assert re.search(message, finished.stderr)
    assert not out.exists()


def test_command_wants_two_folders(made_result: Maker, tmp_path: Path) -> None:
    folder = write(simple(made_result), tmp_path / "a")
    finished = CliRunner().invoke(main, ["compare", folder, "--out", str(tmp_path / "out")])
    assert finished.exit_code == 2
    assert "`DIR` must be at least two output folders, but there is 1" in finished.stderr
    (tmp_path / "empty").mkdir()
    other = CliRunner().invoke(
        main, ["compare", folder, str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    )
    assert other.exit_code == 2
    assert "holds no posterior.nc" in other.stderr
