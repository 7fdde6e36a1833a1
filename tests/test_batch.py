"""Many maps by one call: the table is checked as a whole, a failure stops no other, and nothing is computed twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from click.testing import Result as Ran

import bayesunmix as bu
from bayesunmix.batches import run
from bayesunmix.batches.files import write_batch
from bayesunmix.batches.outcome import Batch, Outcome
from bayesunmix.batches.table import Defaults, MapRow, read_rows
from bayesunmix.batches.work import MapJob, unmix_map
from bayesunmix.cli import main
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputErrors
from bayesunmix.data.files import quiet
from bayesunmix.results.verdict import Finding, Level, Verdict
from bayesunmix.simulation.simulate import simulate_map

CONFIG = """\
[sample]
elements = ["Mg", "Si", "Fe"]
thickness_nm = [100, 30]
density_g_cm3 = [4.5, 0.3]
[simulate]
shape = [12, 12]
counts_per_pixel = 200.0
[[phases]]
name = "A"
matrix = true
composition = {Mg = 0.5, Si = 0.5}
fraction = 0.8
[[phases]]
name = "B"
absent = ["Si"]
composition = {Mg = 0.7, Fe = 0.3}
fraction = 0.2
[inference]
method = "map"
"""


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two maps, a truncated one, and two configurations, of which one names no element."""
    folder = tmp_path_factory.mktemp("maps")
    (folder / "run.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "wrong.toml").write_text(CONFIG.replace('"Fe"]', '"Xx"]'), encoding="utf-8")
    config = RunConfig.from_toml(folder / "run.toml")
    for seed in (0, 1):
        with quiet():
            simulate_map(config, seed).to_signal().save(str(folder / f"map{seed}.hspy"))
    (folder / "short.hspy").write_bytes((folder / "map0.hspy").read_bytes()[:20_000])
    return folder


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the work be done in this process, and return the names of the maps that were worked at."""
    names: list[str] = []

    class NoCluster:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    def spread(task: Callable[[MapJob], Outcome], jobs: list[MapJob], *_: object) -> object:
        from bayesunmix.cluster.spread import Answer

        for place, job in enumerate(jobs):
            names.append(job.row.name)
            yield Answer(place, task(job))

    monkeypatch.setattr(run, "workers", NoCluster)
    monkeypatch.setattr(run, "spread", spread)
    return names


def test_a_table_of_a_spreadsheet_is_read(maps: Path) -> None:
    path = table(
        maps,
        "Map;name;Seed;pressure_GPa;note\nmap0.hspy;first;3;40,5;a\n\nmap1.hspy;;;;b\n",
        encoding="utf-8-sig",
    )
    first, second = read_rows(path, Defaults(config=maps / "run.toml", method="svi", seed=7))
    assert (first.name, first.seed, first.method) == ("first", 3, "svi")
    assert (second.name, second.seed, second.map) == ("map1", 7, maps / "map1.hspy")
    assert first.covariates == {"pressure_GPa": 40.5, "note": "a"}
    assert np.isnan(second.covariates["pressure_GPa"])


def test_patterns_lists_and_pandas_tables_are_read(maps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Defaults(config=maps / "run.toml")
    names = ["map0", "map1", "short"]
    assert [row.name for row in read_rows(str(maps / "*.hspy"), defaults)] == names
    assert [row.name for row in read_rows([maps / "map0.hspy", str(maps / "map1.hspy")], defaults)] == names[
        :2
    ]
    monkeypatch.chdir(maps)
    frame = pd.DataFrame({"map": ["map0.hspy", "map1.hspy"], "T_K": [300.0, None], "signal": [0, None]})
    first, second = read_rows(frame, defaults)
    assert (first.covariates, first.signal, second.signal) == ({"T_K": 300.0}, 0, None)
    with pytest.raises(
        bu.InputError, match=r'`TABLE` must match at least one map, but ".*none\*" matches none'
    ):
        read_rows("none*", defaults)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"`TABLE` must be a CSV file with a column `map`, but .* is empty"),
        ("map\n", r"`TABLE` must hold at least one map, but holds a header alone"),
        ("maps,config\na,b\n", r"`TABLE` must have a column `map`, but has maps, config"),
        ("map,methd\nmap0.hspy,svi\n", r'`column methd` must be one of .*Did you mean "method"'),
        ("map,x,x\nmap0.hspy,1,2\n", r"`column x` must stand once, but stands twice"),
        ("map,mean\nmap0.hspy,1\n", r"`column mean` must differ from the columns of the tables of results"),
        (",map\n0,map0.hspy\n", r"`column 1` must have a name"),
        ("map\nmap0.hspy,2\n", r"`line 2` must have a value for each of the 1 columns, but has 2"),
        ("map,config\nmap0.hspy,\n", r"`line 2, config` must name a configuration, or one be given for all"),
        ("map,name\nmap0.hspy,a/b\n", r"`line 2, name` must be usable as the name of a folder"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(maps: Path, text: str, said: str) -> None:
    with pytest.raises(bu.InputError, match=said):
        read_rows(table(maps, text), Defaults())


def test_all_that_is_wrong_is_said_at_once(maps: Path, tmp_path: Path) -> None:
    text = (
        "map,config,name,seed,method\n"
        "none.hspy,run.toml,a,0,nuts\n"
        "map0.hspy,none.toml,b,x,nuts\n"
        "map0.hspy,run.toml,c,0,nut\n"
        "map0.hspy,run.toml,d,0,nuts\n"
        "map1.hspy,run.toml,D,0,nuts\n"
    )
    path = table(maps, text)
    with pytest.raises(InputErrors) as caught:
        bu.batch(path, tmp_path / "out")
    fields = [error.field for error in caught.value.errors]
    assert fields == ["line 2, map", "line 3, config", "line 3, seed", "line 4, method", "line 6, name"]
    assert not (tmp_path / "out").exists()
    ran: Ran = CliRunner().invoke(main, ["batch", str(path), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 2
    assert len(re.findall(r"^bayesunmix: error: `line", ran.output, flags=re.MULTILINE)) == 5


def test_a_folder_of_something_else_is_refused(maps: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    said = "`--out` must be a new or empty folder, or that of an earlier batch, but .* holds other things"
    with pytest.raises(bu.InputError, match=said):
        bu.batch(maps / "map0.hspy", tmp_path, config=maps / "run.toml")
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(bu.InputError, match="holds the result of a single map"):
        bu.batch(maps / "map0.hspy", tmp_path, config=maps / "run.toml")


@pytest.mark.slow
def test_a_batch_goes_on_and_computes_nothing_twice(
    maps: Path, tmp_path: Path, inline: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "map,config,name,pressure_GPa\n"
        "map0.hspy,run.toml,whole,40\n"
        "short.hspy,run.toml,short,50\n"
        "map1.hspy,wrong.toml,wrong,60\n"
    )
    out = tmp_path / "out"
    found = bu.batch(table(maps, text), out, progress=False)
    # The configuration that cannot be used is known before anything is started.
    assert inline == ["whole", "short"]
    assert list(found.results) == ["whole"]
    assert found.exit_status == 1
    assert set(found.failures) == {"short", "wrong"}
    assert "must be a whole .hspy file" in found.failures["short"]
    assert "must be a chemical symbol such as Mg" in found.failures["wrong"]
    assert not found.done[0].before
    assert found.results["whole"].elements == ["Mg", "Si", "Fe"]
    assert found.covariate("pressure_GPa") == {"pressure_GPa": [40.0]}
    together, own = (pd.read_csv(out / name) for name in ("results.csv", "whole/composition.csv"))
    assert list(together.columns[:3]) == ["name", "pressure_GPa", "phase"]
    np.testing.assert_array_equal(together["mean"], own["mean"])

    # Whatever would compute now fails.
    monkeypatch.setattr("bayesunmix.pipeline._computed", None)
    again = bu.batch(table(maps, text), out, progress=False)
    assert again.done[0].before
    assert again.exit_status == 1
    assert not list(out.glob("*.before"))
    changed = bu.batch(table(maps, text), out, seed=1, progress=False)
    assert "holds another (seed: 0 there, 1 here). Add --overwrite" in changed.failures["whole"]
    replaced = bu.batch(table(maps, text), out, seed=1, overwrite=True, progress=False)
    assert "'NoneType' object is not callable" in replaced.failures["whole"]


def made(name: str, level: Level | None, reason: str = "", **covariates: float | str) -> Outcome:
    """Return an outcome by hand."""
    row = MapRow(name=name, map=Path("m.hspy"), config=Path("c.toml"), covariates=covariates)
    if level is None:
        return Outcome(row=row, status="failed", reason=reason)
    findings = (Finding("distrust", "Something is `odd`."),) if level == Level.DISTRUST else ()
    composition = pd.DataFrame(
        {
            "phase": ["A"],
            "element": ["Mg"],
            "mean": [0.5],
            "lower": [0.4],
            "upper": [0.6],
            "detected": ["true"],
            "unit": ["at_frac"],
        }
    )
    verdict = Verdict(level, findings)
    return Outcome(row=row, status="done", verdict=verdict, composition=composition, partition=composition)


def test_a_batch_says_how_its_maps_went(tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>"
    found = Batch(
        tmp_path,
        (
            made("one", Level.GOOD, x=1.0),
            made("two", Level.DISTRUST, x=np.nan),
            made("three & co", None, f"`{odd}` must be else.", x=3.0),
            Outcome(row=made("four", Level.GOOD, x=4.0).row),
        ),
    )
    assert found.headline == "4 maps: 1 good, 1 not to be trusted, 1 failed, 1 waiting"
    assert repr(found).splitlines()[3].startswith("  three & co: failed: `<script>")
    assert found.exit_status == 1
    assert Batch(tmp_path, found.outcomes[:2]).exit_status == 3
    assert Batch(tmp_path, found.outcomes[:1]).exit_status == 0
    with pytest.raises(
        bu.InputError, match=r'`name` must be a map of the batch that has a result, but is "on"'
    ):
        found.results["on"]
    with pytest.raises(bu.InputError, match="`name` must be a covariate of the table: x"):
        found.covariate("y")
    write_batch(found)
    page = (tmp_path / "batch.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert 'href="one/report.html"' in page
    assert page.index("Failed") < page.index("Something is <code>odd</code>")
    assert "50 [40, 60]" in page
    for shown in (page, found._repr_html_()):
        assert "three &amp; co" in shown
    record = json.loads((tmp_path / "batch.json").read_text(encoding="utf-8"))
    assert [one["status"] for one in record["maps"]] == ["done", "done", "failed", "waiting"]
    assert record["files"] == ["batch.csv", "batch.html", "partition.csv", "results.csv", "batch.json"]
    write_batch(found)
    assert not list(tmp_path.glob("*.before*"))


@pytest.mark.slow
def test_what_nobody_caused_has_its_traceback_in_the_folder_of_the_map(
    maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr("bayesunmix.batches.work.run_image", broken)
    (row,) = read_rows(maps / "map0.hspy", Defaults(config=maps / "run.toml"))
    config = RunConfig.from_toml(maps / "run.toml")
    found = unmix_map(MapJob(row=row, config=config, out=tmp_path / "map0", overwrite=False))
    assert found.status == "failed"
    assert found.reason == f"ZeroDivisionError: by accident; details are in {tmp_path / 'map0' / 'run.log'}"
    assert "in broken" in (tmp_path / "map0" / "run.log").read_text(encoding="utf-8")


@pytest.mark.calibration
@pytest.mark.skipif(sys.platform == "win32", reason="kills by Unix's signals")
def test_a_killed_batch_goes_on(maps: Path, tmp_path: Path) -> None:
    rows = [f"map{number % 2}.hspy,m{number},{number}" for number in range(6)]
    path = table(maps, "\n".join(["map,name,seed", *rows, "short.hspy,short,0"]) + "\n")
    command = [sys.executable, "-P", "-m", "bayesunmix", "batch", str(path), "--workers", "2"]
    command += ["--config", str(maps / "run.toml"), "--out", str(tmp_path / "out")]
    begun = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "out").glob("m*/run.json"))) < 2:
        assert begun.poll() is None
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("m*/run.json")}
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "7 maps: 6 " in ran.stderr
    assert "failed: short: `MAP` must be a whole .hspy file" in ran.stderr
    assert len(list((tmp_path / "out").glob("m*/run.json"))) == 6
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
