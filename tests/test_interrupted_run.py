"""Runs that are stopped, by an error, a kill or a full disk: nothing is lost, and what goes on equals what was not."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import bayesunmix.plot
from bayesunmix.cli import main
from bayesunmix.config.phase import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.checkpoint import FOLDER, Stages
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.core.output_folder import LOG, NEW, claimed, read_record, without_checksum, write_record
from bayesunmix.core.output_folder import names_of as all_names_of
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import save
from bayesunmix.fit.preparation import prepare
from bayesunmix.pipeline import run_image
from bayesunmix.report import files, page, paper
from bayesunmix.report.page import write_report
from bayesunmix.results.result import Result, open_result
from bayesunmix.results.result_tables import ResultTables
from bayesunmix.results.run_facts import run_facts
from bayesunmix.simulation.simulate import simulate_map

pytestmark = pytest.mark.slow

TOML = """
[sample]
elements = ["Mg", "Si", "Fe"]
thickness_nm = [100, 30]
density_g_cm3 = [4.5, 0.3]
[simulate]
shape = [24, 24]
counts_per_pixel = 150.0
[[phases]]
name = "A"
matrix = true
composition = {Mg = 0.5, Si = 0.5}
fraction = 0.8
[[phases]]
name = "B"
absent = ["Si"]
composition = {Mg = 0.8, Fe = 0.2}
fraction = 0.2
[inference]
method = "laplace"
draws = 40
starts = 1
"""
STAGES = (
    "starts",
    "mode",
    "misfit",
    "further_phase",
    "draws",
    "tile_likelihood",
    "heterogeneity",
    "discrepancy",
    "rotations",
    "pixels",
)
OTHER_SEED = 5
FULL = OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing stopped."""

    image: SpectrumImage
    config: RunConfig
    folder: Path
    result: Result


def names_of(folder: Path) -> list[str]:
    """Files of a result; the log of what was said grows from run to run."""
    return [name for name in all_names_of(folder) if name != LOG]


@pytest.fixture(scope="module", autouse=True)
def few_figures() -> Iterator[None]:
    """Draw two figures: the others fail and are kept in the same way, and take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            page, "_all_figures", lambda _: {name: bayesunmix.plot.FIGURES[name] for name in ("fit", "maps")}
        )
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, few_figures: None) -> Undisturbed:
    toml = tmp_path_factory.mktemp("run") / "run.toml"
    toml.write_text(TOML)
    config = RunConfig.from_toml(toml)
    image = simulate_map(config, 1).image
    folder = toml.parent / "out"
    result = _run(image, config, folder)
    return Undisturbed(image, config, folder, result)


def _run(image: SpectrumImage, config: RunConfig, folder: Path | None, **options: Any) -> Result:  # noqa: ANN401
    return run_image(image, config, folder, progress=False, **options)


def assert_the_same(folder: Path, other: Path) -> None:
    """Compare tables, and every array of the posterior, bit for bit."""
    assert names_of(folder) == names_of(other)
    for name in names_of(other):
        if name.endswith((".csv", ".md", ".tex")):
            assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    trees = [xr.open_datatree(path / "posterior.nc", engine="h5netcdf").load() for path in (folder, other)]
    for group in trees[1].children:
        one, two = (tree[group].to_dataset() for tree in trees)
        assert set(one.variables) == set(two.variables)
        for name in one.variables:
            assert one[name].values.tobytes() == two[name].values.tobytes(), (group, name)
    for tree in trees:
        tree.close()


def stop_after(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Fail when a stage has been kept."""
    real = Stages.run

    def run(self: Stages, name: str, *args: Any) -> Any:  # noqa: ANN401
        result = real(self, name, *args)
        if name == stage:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Stages, "run", run)


def another_result(whole: Undisturbed, folder: Path) -> Path:
    """Return a folder with the result of another seed, and a file of the user's."""
    shutil.copytree(whole.folder, folder / "out")
    record = without_checksum(read_record(folder / "out") or {})
    facts = {**record["depends_on"], "seed": OTHER_SEED}
    write_record(folder / "out", {**record, "seed": OTHER_SEED, "depends_on": facts})
    (folder / "out" / "notes.txt").write_text("mine")
    return folder / "out"


def other_kind(config: RunConfig, kind: str) -> RunConfig:
    """Return a run that takes other stages, or fewer pixels."""
    inference = dataclasses.replace(config.inference, method="map")
    if kind == "auto":
        return dataclasses.replace(config, phases="auto", inference=inference, simulated_phases=())
    if kind == "free":
        inference = dataclasses.replace(inference, method="laplace", endmembers="free")
        return dataclasses.replace(config, phases=(Phase("A"), Phase("B")), inference=inference)
    return dataclasses.replace(config, inference=inference, map=dataclasses.replace(config.map, rows=(2, 22)))


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# -- go on ------------------------------------------------------------------------------------------------------------


def test_a_resumed_run_equals_the_undisturbed_one(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood in the folder before stays until the new result is whole."""
    folder = another_result(whole, tmp_path)
    before = (folder / "run.json").read_bytes()
    with monkeypatch.context() as patch:
        stop_after(patch, "mode")
        with pytest.raises(KeyboardInterrupt):
            _run(whole.image, whole.config, folder, overwrite=True)
    kept = STAGES[: STAGES.index("mode") + 1]
    assert {path.stem for path in (folder / FOLDER).glob("*.npz")} == set(kept)
    assert (folder / "run.json").read_bytes() == before
    assert open_result(folder).record.seed == OTHER_SEED
    assert _run(whole.image, whole.config, folder, resume=True).record.resumed == tuple(kept)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / FOLDER).exists()
    (folder / "notes.txt").unlink()
    assert open_result(folder).record.seed == 0
    assert_the_same(folder, whole.folder)


@pytest.mark.calibration
@pytest.mark.parametrize("kind", ["auto", "free", "mask"])
def test_so_does_one_of_another_kind(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The number of phases from the map, endmembers without physics, and rows that are left out."""
    config = other_kind(whole.config, kind)
    undisturbed = tmp_path / "whole"
    _run(whole.image, config, undisturbed)
    for stage in {"auto": ("phase_number", "mode"), "free": ("mode",), "mask": ("starts", "pixels")}[kind]:
        folder = tmp_path / stage
        with monkeypatch.context() as patch:
            stop_after(patch, stage)
            with pytest.raises(KeyboardInterrupt):
                _run(whole.image, config, folder)
        assert stage in _run(whole.image, config, folder, resume=True).record.resumed
        assert_the_same(folder, undisturbed)


def test_a_finished_run_is_not_done_again(whole: Undisturbed, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: (whole.folder / name).stat().st_mtime_ns for name in names_of(whole.folder)}
    logged = (whole.folder / LOG).read_text(encoding="utf-8")
    monkeypatch.setattr(Stages, "run", raising(AssertionError("a stage was run")))
    again = _run(whole.image, whole.config, whole.folder, resume=True)
    xr.testing.assert_identical(again.composition(), whole.result.composition())
    assert again.problems == whole.result.problems
    assert before == {name: (whole.folder / name).stat().st_mtime_ns for name in names_of(whole.folder)}
    assert (whole.folder / LOG).read_text(encoding="utf-8").startswith(logged)


def test_another_run_is_refused_and_what_differs_is_named(whole: Undisturbed) -> None:
    image, config = whole.image, whole.config
    more = dataclasses.replace(config, inference=dataclasses.replace(config.inference, draws=50))
    counts = image.counts.copy()
    counts[0, 0, 100] += 1
    changed = dataclasses.replace(image, counts=counts)
    other = dataclasses.replace(image, acquisition=image.acquisition.replace(tilt_deg=3.0))
    for asked, seed, said in (
        ((image, config), 5, "seed: 0 there, 5 here"),
        ((image, more), 0, "configuration.inference.draws: 40 there, 50 here"),
        ((changed, config), 0, "counts: not the same"),
        ((other, config), 0, "acquisition.takeoff_angle_deg: 22.0 there, 24.1"),
    ):
        with pytest.raises(InputError, match=rf"`--resume` must go on with the same run, .*{said}"):
            _run(*asked, whole.folder, seed=seed, resume=True)
    assert open_result(whole.folder).record.seed == 0


def test_another_line_table_is_another_run(whole: Undisturbed, tmp_path: Path) -> None:
    table = tmp_path / "lines.json"
    xray = dataclasses.replace(whole.config.xray)
    object.__setattr__(xray, "table", table)
    config = dataclasses.replace(whole.config, xray=xray)
    keys, setup = set(), prepare(whole.image, whole.config)
    for text in ("{}", "{ }"):
        table.write_text(text)
        keys.add(Stages(None, run_facts(setup, config, 0), resume=False).key)
    assert len(keys) == 2


def test_a_second_run_in_a_folder_is_refused(whole: Undisturbed, tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(InputError, match="another run is writing"):
        _run(whole.image, whole.config, tmp_path)


# -- what cannot be written -------------------------------------------------------------------------------------------


def test_a_figure_that_fails_takes_nothing_with_it(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setitem(bayesunmix.plot.FIGURES, "maps", raising(ValueError("no\nsuch font")))
        said = r"The figure `maps` could not be written \(ValueError: no such font\)"
        with pytest.warns(BayesUnmixWarning, match=said):
            whole.result.save(folder)
    missing = {"figures/maps.png", "figures/maps.pdf"}
    assert set(names_of(folder)) == set(names_of(whole.folder)) - missing
    record = json.loads((folder / "run.json").read_text())
    assert any("The figure `maps`" in warning for warning in record["warnings"])
    assert "The figure maps could not be made" in (folder / "report.html").read_text(encoding="utf-8")
    write_report(folder)
    assert names_of(folder) == names_of(whole.folder)
    record = json.loads((folder / "run.json").read_text())
    assert record["files"] == names_of(folder)
    assert record["warnings"] == list(whole.result.record.warnings)


@pytest.mark.parametrize("failing", ["page", "tables for a paper", "a table of numbers"])
def test_no_other_step_takes_the_numbers_with_it(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    place: tuple[Any, str] = {
        "page": (page, "_page"),
        "tables for a paper": (paper, "write_tables"),
        "a table of numbers": (ResultTables, "uncertainty_budget"),
    }[failing]
    monkeypatch.setattr(*place, raising(KeyError("nothing")))
    with pytest.warns(BayesUnmixWarning, match="could not be written .KeyError"):
        whole.result.save(tmp_path / "out")
    again = open_result(tmp_path / "out")
    xr.testing.assert_identical(again.composition(), whole.result.composition())
    assert {"composition.csv", "partition.csv", "abundances.hspy"} <= set(names_of(tmp_path / "out"))


def test_a_full_disk_keeps_the_numbers_without_figures(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    monkeypatch.setattr(page, "png_bytes", raising(FULL))
    with (
        pytest.warns(BayesUnmixWarning, match=r"The figure `\w+` could not be written"),
        pytest.raises(OSError, match=r"the numbers are in .*No space left on device; `bayesunmix report`"),
    ):
        whole.result.save(folder)
    assert open_result(folder).phases == ["A", "B"]
    assert (folder / "partition.csv").read_bytes() == (whole.folder / "partition.csv").read_bytes()


def test_a_full_disk_leaves_the_old_result_and_the_stages(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = another_result(whole, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_posterior", raising(FULL))
        with pytest.raises(
            OSError, match=r"`posterior.nc` could not be written: No space left .*composition.csv"
        ):
            _run(whole.image, whole.config, folder, overwrite=True)
    assert open_result(folder).record.seed == OTHER_SEED
    assert (folder / NEW / "composition.csv").is_file()
    assert _run(whole.image, whole.config, folder, resume=True).record.resumed == tuple(STAGES)
    assert not (folder / NEW).exists()
    (folder / "notes.txt").unlink()
    assert open_result(folder).record.seed == 0
    assert_the_same(folder, whole.folder)


def test_a_disk_without_room_for_arrays_is_asked_before_they_are_written(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 that finds the disk full in the middle may end the process."""
    asked: list[int] = []

    def full(_: int, start: int, size: int) -> None:
        asked.append(start + size)
        raise FULL

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(
        OSError, match=r"`posterior.nc` could not be written: No space left .*composition.csv"
    ):
        whole.result.save(tmp_path / "out")
    assert min(asked) >= (whole.folder / "endmembers.hspy").stat().st_size
    assert max(asked) >= (whole.folder / "posterior.nc").stat().st_size
    assert not list(tmp_path.rglob("*.hspy")) + list(tmp_path.rglob("*.nc")) + list(tmp_path.rglob("*.room"))


@pytest.mark.parametrize("command", ["report", "tables"])
def test_a_folder_that_cannot_be_written_is_told_before(
    whole: Undisturbed, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)
    done = CliRunner().invoke(main, [command, str(whole.folder)])
    assert done.exit_code == 2
    assert "`DIR` must be a folder that can be written" in done.stderr


def test_a_disk_that_takes_no_stages_ends_no_run(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "savez", raising(FULL))
    stop_after(monkeypatch, "mode")
    with (
        pytest.warns(BayesUnmixWarning, match="Finished stages cannot be kept any more"),
        pytest.raises(KeyboardInterrupt),
    ):
        _run(whole.image, whole.config, tmp_path / "out")
    assert not list((tmp_path / "out" / FOLDER).glob("*.npz"))


@pytest.mark.calibration
def test_without_stages_the_numbers_are_the_same(
    whole: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "savez", raising(FULL))
    with pytest.warns(BayesUnmixWarning, match="Finished stages cannot be kept any more"):
        _run(whole.image, whole.config, tmp_path / "out")
    assert_the_same(tmp_path / "out", whole.folder)


# -- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, types
stage, inside, arguments = sys.argv[1], sys.argv[2] == "in", sys.argv[3:]
from bayesunmix.core import output_folder
from bayesunmix.core.checkpoint import Stages

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

real = Stages.run
def run(self, name, compute, *kind):
    if name == stage and inside:
        return real(self, name, lambda: die(compute()), *kind)
    result = real(self, name, compute, *kind)
    if name == stage:
        die()
    return result
Stages.run = run
if stage == "files":
    if inside:
        # Of this module alone: stages are kept by the same call.
        output_folder.os = types.SimpleNamespace(**{**vars(os), "replace": die})
    else:
        output_folder._settle = lambda folder: die() if (folder / output_folder.COMPLETE).is_dir() else None
from bayesunmix.cli import main
sys.argv = ["bayesunmix", *arguments]
main()
"""


@pytest.mark.calibration
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
@pytest.mark.parametrize("method", ["laplace", "nuts", "svi"])
def test_a_kill_in_or_after_any_stage_loses_nothing(whole: Undisturbed, tmp_path: Path, method: str) -> None:
    map_file, toml = tmp_path / "map.hspy", tmp_path / "run.toml"
    save(whole.image, map_file)
    toml.write_text(TOML)
    arguments = ["unmix", str(map_file), "--config", str(toml), "--method", method, "--out"]

    def program(*command: str) -> int:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run([sys.executable, "-P", *command], check=False, **quiet).returncode  # type: ignore[call-overload,no-any-return]

    undisturbed, folder, kept = (tmp_path / name for name in ("whole", "killed", "kept"))
    assert program("-m", "bayesunmix", *arguments, str(undisturbed)) in (0, 3)

    def killed(stage: str, moment: str) -> bool:
        return program("-c", KILLED, stage, moment, *arguments, str(folder), "--resume") == -signal.SIGKILL

    # One run is killed again and again: what it is in the end has gone through every stage's file.
    for number, stage in enumerate(STAGES):
        for moment in ("in", "after"):
            assert killed(stage, moment)
            files = {path.stem for path in (folder / FOLDER).glob("*.npz")}
            assert files == set(STAGES[: number + (moment == "after")])
    assert killed("files", "in")
    shutil.copytree(folder, kept)
    assert killed("files", "after")
    for stopped in (kept, folder):
        assert program("-m", "bayesunmix", *arguments, str(stopped), "--resume") in (0, 3)
        assert_the_same(stopped, undisturbed)
        assert open_result(stopped).record.resumed == STAGES
