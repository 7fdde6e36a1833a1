"""The benchmarks of time and memory: what they count, and the tables that they write."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from bayesunmix.config.run_config import RunConfig

if TYPE_CHECKING:
    from bayesunmix.fit.posterior import FittedPosterior

ROOT = Path(__file__).resolve().parents[1]
Load = Callable[[str], ModuleType]
LOG = """\
2026-11-28T14:58:43Z INFO    mode begins
2026-11-28T14:58:43Z INFO    start 1 of 4: objective -39352.5
2026-11-28T14:58:52Z INFO    mode: log mass 0.0 relative to the largest
2026-11-28T14:58:52Z INFO    mode: 9.5 s
2026-11-28T14:58:55Z INFO    draws (laplace): 3.3 s
2026-11-28T14:58:57Z INFO    draws at the second maximum: 2.1 s
2026-11-28T14:59:06Z INFO    files: 3.7 s
"""


def finished(bench: ModuleType, seconds: float, cpu_seconds: float, gigabytes: float = 1.0) -> Any:  # noqa: ANN401
    return bench.Finished(0, "", "", seconds, cpu_seconds, int(1e9 * gigabytes), int(1.5e9 * gigabytes), 0.4)


def test_what_a_program_starts_is_measured_with_it(load: Load) -> None:
    bench = load("bench")
    busy = """
import time
held = bytearray(250_000_000)
while time.process_time() < 0.4:
    pass
time.sleep(1.0)
"""
    code = f"import subprocess, sys; held = bytearray(250_000_000); subprocess.run([sys.executable, '-c', {busy!r}])"
    done = bench.run_program((sys.executable, "-c", code))
    assert done.code == 0
    assert done.cpu_seconds >= 0.4
    assert done.peak_bytes >= 250_000_000
    assert done.together_bytes >= 500_000_000


def test_a_value_and_gradient_is_two_matrix_products(load: Load, small_fit: FittedPosterior) -> None:
    """The products that JAX finds in the loops over chunks: of single precision there are no others."""
    worker, model = load("watched_worker"), small_fit.model
    placed = model.placed(small_fit.data)
    gradient = jax.value_and_grad(model.programs.potential)
    traced = jax.make_jaxpr(gradient)(jnp.asarray(model.filled(small_fit.estimate.z)), placed)
    by_chunk = [flop for flop in products_of_loops(traced.jaxpr) if flop]
    numbers = np.diff(placed.data.pixels.ends, prepend=0)
    assert worker.gradient_flop(placed) == np.dot(numbers, by_chunk) > 0


def products_of_loops(jaxpr: Any) -> list[float]:  # noqa: ANN401
    """FLOP of the float32 products in the body of each loop of a traced function, in their order."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            found.append(sum(product_flop(each) for each in equation.params["body_jaxpr"].jaxpr.eqns))
        else:
            found += [flop for inner in inside(equation) for flop in products_of_loops(inner)]
    return found


def product_flop(equation: Any) -> float:  # noqa: ANN401
    """FLOP of the float32 products in an equation of a traced function, and in what it calls."""
    if equation.primitive.name != "dot_general":
        return sum(product_flop(each) for inner in inside(equation) for each in inner.eqns)
    made = equation.outvars[0].aval
    if made.dtype != jnp.float32:
        return 0.0
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2.0 * math.prod(made.shape) * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)


def inside(equation: Any) -> list[Any]:  # noqa: ANN401
    """Return the functions that an equation calls."""
    leaves = jax.tree.leaves(
        equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
    )
    return [
        getattr(leaf, "jaxpr", leaf) for leaf in leaves if hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")
    ]


def test_products_are_counted_by_stage(
    load: Load, small_fit: FittedPosterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bayesunmix.core.checkpoint import Stages
    from bayesunmix.inference import pixel_posterior

    worker, model = load("watched_worker"), small_fit.model
    counter = worker.Counter()
    counter.count(monkeypatch.setattr)
    stages = Stages(None, {}, resume=False)
    placed, z = model.placed(small_fit.data), small_fit.estimate.z
    counts, log_mixed = np.ones((7, 5), np.float32), np.zeros((3, 5))
    values = stages.run(
        "mode", lambda: [model.value_and_gradient(z, each)[0] for each in (placed, small_fit.data)]
    )
    stages.run("pixels", lambda: pixel_posterior.relative_likelihood(counts, log_mixed))
    assert values == pytest.approx([small_fit.estimate.potential] * 2)
    assert counter.work["mode"] == worker.Work(2, 2 * worker.gradient_flop(placed))
    assert counter.work["pixels"] == worker.Work(0, 2 * 7 * 5 * 3)


def test_rates_are_of_this_device(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = load("watched_worker")
    monkeypatch.setattr(worker, "MOST_SECONDS", 0.1)
    monkeypatch.setattr(worker, "CPU_SIDE", 256)
    # A product of 33 MFLOP: no core is slower than 0.1 GFLOP/s, no machine of today reaches 100 TFLOP/s.
    assert 1e8 < worker.matrix_rate() < 1e14


def test_stages_are_read_from_the_record_and_else_from_the_log(load: Load) -> None:
    timed = load("timed")
    told = timed.stages_of({"timings": {"mode": 9.4685}}, LOG)
    assert told == {
        "mode": timed.Stage(9.5),
        "draws": timed.Stage(3.3),
        "second_maximum": timed.Stage(2.1),
        "files": timed.Stage(3.7),
    }
    costs = {"mode": {"seconds": 9.4685, "processor_s": 15.0, "peak_bytes": 10**9}}
    assert timed.stages_of({"costs": costs}, LOG)["mode"] == timed.Stage(9.4685, 15.0, 10**9)
    assert timed.stages_of({"costs": costs}, LOG)["files"] == timed.Stage(3.7)


def test_environments_differ_in_the_programs_alone(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    timed = load("timed")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "5")
    bare, kept = timed.environment(None), timed.environment(tmp_path)
    assert not [name for name in bare if name.startswith("JAX_")]
    assert {name: kept[name] for name in kept.keys() - bare.keys()} == {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def test_another_checkout_is_what_its_commands_import(load: Load, tmp_path: Path) -> None:
    timed = load("timed")
    for folder in ("bayesunmix", "models", "inference"):
        (tmp_path / "older" / folder).mkdir(parents=True)
        (tmp_path / "older" / folder / "__init__.py").write_text(f"PART = 'older {folder}'\n")
    checkout = timed.Checkout.of(tmp_path / "older", tmp_path / "links")
    code = "import bayesunmix as b, bayesunmix.models as m, bayesunmix.inference as i; print(b.PART, m.PART, i.PART)"
    command = [sys.executable, "-P", "-c", code]
    said = subprocess.run(command, env=checkout.environment(None), capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[0] == "older bayesunmix older models older inference"


def test_the_other_map_has_another_shape_and_three_other_elements(load: Load, tmp_path: Path) -> None:
    sessions, large, real_map = load("sessions"), load("large"), load("real_map")
    file = tmp_path / "other.toml"
    file.write_text(large.toml_of(sessions.other_phantom()), encoding="utf-8")
    other, real = RunConfig.from_toml(file), RunConfig.from_toml(real_map.CONFIG)
    assert len(set(other.sample.elements) - set(real.sample.elements)) == 3
    assert other.simulate.shape == (180, 224)
    assert set(other.truth()[1][0].composition) <= set(other.sample.elements)


@pytest.mark.parametrize(("phases", "read"), [("8", 8), ('"auto"', "auto")])
def test_a_number_of_phases_replaces_those_declared(
    load: Load, tmp_path: Path, phases: str, read: object
) -> None:
    phase_costs, real_map = load("phase_costs"), load("real_map")
    file = tmp_path / "phases.toml"
    file.write_text(
        phase_costs.with_phases(real_map.CONFIG.read_text(encoding="utf-8"), phases), encoding="utf-8"
    )
    config, declared = RunConfig.from_toml(file), RunConfig.from_toml(real_map.CONFIG)
    assert config.phases == read if isinstance(read, str) else len(config.phases) == read
    assert config.sample == declared.sample


def test_processor_time_decides(load: Load) -> None:
    bench, command_costs = load("bench"), load("command_costs")
    before = finished(bench, 80.0, 130.0)
    row = command_costs.ratio_row("Laplace", finished(bench, 60.0, 65.0), before, 0.5)
    assert row.holds
    assert row.measured.startswith("0.50 of the processor time (65 s over 130 s), 0.75 of the wall time")
    assert not command_costs.ratio_row("Laplace", finished(bench, 30.0, 66.0), before, 0.5).holds
    assert command_costs.ratio_row("NUTS", before, before, None).holds is None


def test_a_second_map_may_compile_nothing_long(load: Load) -> None:
    second_rows = load("second_map").second_rows
    assert [row.holds for row in second_rows("here", [0.05, 0.2], 0.4)] == [True, True]
    assert [row.holds for row in second_rows("here", [0.05, 0.21], 0.41)] == [False, False]
    assert "1 above, of 2; the longest 0.21 s" in second_rows("here", [0.05, 0.21], 0.41)[0].measured
    assert [row.holds for row in second_rows("here", [], 0.1)] == [True, True]


def test_stages_stand_beside_their_limits(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, stage_costs, timed = load("bench"), load("stage_costs"), load("timed")
    stages = {"mode": timed.Stage(9.5, 15.0, 10**9), "files": timed.Stage(3.7)}
    monkeypatch.setattr(timed.Timed, "stages", stages)
    run = timed.Timed(finished(bench, 20.0, 30.0), Path("out"))
    work = {"mode": {"evaluations": 100, "flop": 2e11}}
    lines = stage_costs.stage_table(run, run, {"commands": [{"work": work}], "rate": 1e11}).splitlines()
    assert lines[2:] == [
        "| mode | 9.5 | 9.5 | 15.0 | 1.00 | 100 | 2.00 |",
        "| files | 3.7 | 3.7 |  |  |  |  |",
        "| start, imports, end | 6.8 | 6.8 |  |  |  |  |",
        "| in all | 20.0 | 20.0 | 30.0 | 1.00 | 100 | 2.00 |",
    ]


def test_the_page_has_a_place_for_every_table(load: Load) -> None:
    pages, performance = load("pages"), load("performance")
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in performance.PARTS:
        written = pages.replaced(page, name, r"| a | \1 |")
        assert "\n".join((f"<!-- measured: {name} -->", r"| a | \1 |", "<!-- end -->")) in written
        assert pages.replaced(written, name, "b") == pages.replaced(page, name, "b")
    with pytest.raises(ValueError, match="0 places for `nothing`"):
        pages.replaced(page, "nothing", "")


def test_cells_do_not_break_a_table(load: Load) -> None:
    assert load("pages").table(["a", "b"], [["1|2", "3"]]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |"


def test_devices_are_compared_by_what_they_answer(load: Load, tmp_path: Path) -> None:
    gpu = load("gpu")
    columns = ["phase", "element", "median", "lower", "upper"]
    for name, median in (("one", 0.42), ("other", 0.40)):
        rows = [("A", "Mg", median, 0.30, 0.50), ("A", "U", 0.0, 0.0, 0.0)]
        (tmp_path / name).mkdir()
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / name / "composition.csv", index=False)
    said = gpu.largest_move(tmp_path / "one", tmp_path / "other")
    assert said == "0.2 half widths of the interval (Mg of A)"


def test_a_share_counts_cards_but_not_the_devices_of_a_processor(load: Load) -> None:
    gpu, timed, bench = load("gpu"), load("timed"), load("bench")
    answer = {"devices": ["a", "b"], "rate": 1e12, "gradient": {"flop": 1e9, "seconds": 2e-3}}
    run = timed.Timed(finished(bench, 1.0, 1.0), Path("out"))
    one = gpu.Ran("cpu", answer, run, run)
    assert one.share == pytest.approx(0.5)
    assert dataclasses.replace(one, platform="gpu").share == pytest.approx(0.25)


class PretendedSession:
    """Stands in for the commands of a session: none runs, each takes what is said here."""

    def __init__(self, load: Load, folder: Path, *, before: bool) -> None:
        self._bench, self._timed = load("bench"), load("timed")
        self.before = self._timed.Checkout("abc") if before else None
        self.this, self.commands, self.repeat = self._timed.Checkout("def"), ("laplace", "nuts"), 2
        self.espm = {"iterate": 40.0, "iterate_cpu": 50.0}, finished(self._bench, 60.0, 70.0, 3.0)
        self.nmf = {"iterate": 80.0, "iterate_cpu": 100.0, "updates": 100}, finished(self._bench, 90.0, 110.0)
        self.real_map, self.other_map = folder / "map", (folder / "other", folder / "other.toml")
        self.folder, self.ran, self.paths = folder, [], 0

    def run(self, kind: str, command: str) -> None:
        """Note what would run."""
        self.ran.append((kind, command))

    def best(self, kind: str, command: str) -> Any:  # noqa: ANN401
        """Return what a command takes."""
        seconds = {"before": 100.0, "cold": 50.0, "warm": 35.0}[kind] * (2.0 if command == "nuts" else 1.0)
        folder = self.folder / f"{kind}-{command}"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text('{"diagnostics": {"rhat_max": 1.004, "ess_bulk_min": 720.0}}')
        (folder / "run.log").write_text(LOG)
        return self._timed.Timed(finished(self._bench, seconds, 1.5 * seconds, 0.6), folder)

    def new(self, name: str) -> Path:
        """Return a path at which nothing is yet."""
        self.paths += 1
        return self.folder / f"{self.paths}-{name}"

    def filled(self, command: str) -> Path:
        """Return a folder of programs."""
        return self.folder / f"filled-{command}"

    def programs(self, kept: Path | None = None) -> Path:
        """Return the folder of programs."""
        return self.folder / "programs"

    def arguments(self, command: str) -> tuple[str, ...]:
        """Return what a command is called with."""
        return ("unmix", "map", "--method", command)


def test_commands_are_timed_in_turn_and_held_against_what_is_asked(load: Load, tmp_path: Path) -> None:
    session = PretendedSession(load, tmp_path, before=True)
    part = load("command_costs").command_part(session)
    assert session.ran[:6] == [(kind, "laplace") for kind in ("before", "cold", "warm")] * 2
    assert "| Laplace, warm | 35.0 | 52.5 | 1.05 | 0.60 | 0.90 | 0.0 |" in part.body
    assert "| scikit-learn, KL-NMF in 100 updates alone | 80.0 | 100.0 | 2.00 |" in part.body
    holds = {row.what: row.holds for row in part.rows}
    assert holds["Laplace, cold: share of the time before"]
    assert not holds["Laplace, warm: share of the time before"]
    assert holds["Laplace, cold: peak memory"]
    assert holds["NUTS, 2 x (500 + 500), warm: share of the time before"] is None
    assert "NUTS, cold: convergence" in holds
    alone = load("command_costs").command_part(PretendedSession(load, tmp_path, before=False))
    assert not [row for row in alone.rows if "before" in row.what]


def test_a_second_map_is_watched_in_a_new_process_and_in_the_same(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_map, bench = load("second_map"), load("bench")
    jobs = []

    def watched(job: dict[str, Any], programs: Path) -> tuple[Any, dict[str, Any]]:
        jobs.append([command[1] for command in job["commands"]])
        one = {"seconds": 40.0, "cpu_seconds": 60.0, "compilations": [8.0, 0.1]}
        two = {"seconds": 15.0, "cpu_seconds": 20.0, "compilations": [0.1, 0.05]}
        first = one if len(jobs) != 2 else two
        return finished(bench, 45.0, 65.0 / len(jobs)), {"commands": [first, two][: len(job["commands"])]}

    monkeypatch.setattr(second_map, "watched", watched)
    part = second_map.second_map_part(PretendedSession(load, tmp_path, before=False))
    assert jobs == [["map"], [str(tmp_path / "other")], ["map", str(tmp_path / "other")]]
    assert "| the 71 GPa map | 45.0 | 65.0 | 2 | 8.00 | 8.1 |" in part.body
    assert "| then another map, in the same process | 15.0 | 20.0 | 2 | 0.10 | 0.2 |" in part.body
    assert [row.holds for row in part.rows] == [True, False, True, True]


def test_stages_are_counted_with_the_programs_of_another_map(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_costs = load("stage_costs")
    gradient = {"flop": 2e7, "seconds": 4e-4, "parameters": 184}
    work = {"mode": {"evaluations": 3000, "flop": 6e10}, "draws": {"evaluations": 2000, "flop": 4e10}}
    answer = {"commands": [{"work": work}], "rate": 1e11, "gradient": gradient}
    monkeypatch.setattr(stage_costs, "watched", lambda job, programs: (None, answer))
    part = stage_costs.stages_part(PretendedSession(load, tmp_path, before=False))
    assert part.body.count("| mode | 9.5 | 9.5 |  |  | 3000 | 0.60 |") == 2
    assert "50 % of that rate" in part.body


def test_more_phases_are_held_against_three(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase_costs, bench, timed = load("phase_costs"), load("bench"), load("timed")
    took = iter([(150.0, 250.0), (200.0, 350.0)])
    monkeypatch.setattr(phase_costs, "timed", lambda *_: timed.Timed(finished(bench, *next(took)), tmp_path))
    part = phase_costs.phases_part(PretendedSession(load, tmp_path, before=False))
    assert "| eight phases | 150.0 | 250.0 | 3.33 |" in part.body
    assert [row.holds for row in part.rows] == [True, False]


def test_programs_lie_in_one_folder_whatever_they_are(load: Load, tmp_path: Path) -> None:
    """JAX finds a program again only where the folder has the name under which it was kept."""
    session = load("sessions").Session(load("bench").Options(tmp_path, tmp_path))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "program").touch()
    first = session.programs()
    assert not first.exists()
    assert session.programs(tmp_path / "kept") == first
    assert [path.name for path in first.iterdir()] == ["program"]
    assert session.programs() == first
    assert not first.exists()
    assert (tmp_path / "kept" / "program").exists()


def test_a_part_is_written_into_its_place(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    performance, command_costs, bench = load("performance"), load("command_costs"), load("bench")
    part = command_costs.Part("| measured |", [bench.Row("share", "at most 0.5", "0.6", False)])
    monkeypatch.setitem(performance.PARTS, "second_map", lambda session: part)
    page = tmp_path / "page.md"
    page.write_text("# Time\n\n<!-- measured: second_map -->\nold\n<!-- end -->\n", encoding="utf-8")
    arguments = [
        "--data",
        str(tmp_path),
        "--only",
        "second_map",
        "--out",
        str(page),
        "--keep",
        str(tmp_path / "kept"),
    ]
    done = CliRunner().invoke(performance.main, arguments)
    assert done.exit_code == 1
    assert "falls short" in done.output
    written = page.read_text(encoding="utf-8")
    assert "old" not in written
    assert written.endswith("| measured |\n<!-- end -->\n")
    assert "this code is at" in written
