"""Worker processes: fresh, with one thread, tried once more where they die, and ended with whoever started them."""

from __future__ import annotations

import importlib
import os
import stat
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from bayesunmix.cluster.spread import LostWorkerError, spread
from bayesunmix.cluster.workers import LEAST_BYTES, _as_many_as_fit, job_options, workers
from bayesunmix.config.cluster import ClusterConfig
from bayesunmix.core.errors import InputError

JOBS = {"kind": "slurm", "jobs": 3, "cores": 2, "memory_GB": 4.0}
# What SLURM's commands do, on this machine and at once.
SBATCH = """#!/bin/sh
cp "$1" "$(dirname "$0")/script"  # the one that is handed in is deleted then
setsid sh "$(dirname "$0")/script" > "$(dirname "$0")/log" 2>&1 &
echo $! >> "$(dirname "$0")/started"
echo "Submitted batch job $!"
"""
SCANCEL = '#!/bin/sh\nfor job in "$@"; do kill -- -"$job"; done\n'


def gone(number: int) -> int:
    """Workers cannot import this: test modules are on nobody's path."""
    return number


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import what workers do from a module that they can import, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("worker_tasks")


def test_what_fails_or_kills_its_worker_stops_no_other(
    tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    settings = ClusterConfig(workers=2, memory_GB=4)
    with workers(settings, 6, {"BESIDES": "kept"}) as client:
        assert len(client.run(os.getpid)) == 2
        ended = {one.place: one for one in spread(partial(tasks.work, tmp_path), range(6), client)}
        (unknown,) = spread(gone, [1], client)
    assert sorted(ended) == list(range(6))
    with pytest.raises(ModuleNotFoundError):
        unknown.result()
    for number in (0, 1, 4, 5):
        found, flags, besides = ended[number].result()
        assert (found, besides) == (number, "kept")
        assert "intra_op_parallelism_threads=1" in flags
    with pytest.raises(InputError, match="`number` must be another, but is 2"):
        ended[2].result()
    with pytest.raises(LostWorkerError, match="died twice"):
        ended[3].result()
    tries = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    # A result that its worker took with it before it was fetched would be made again.
    assert tries["3"] == 2
    assert tries["4"] >= 2
    assert set(tries) == set("012345")


def test_no_more_workers_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask.system.CPU_COUNT", 64)
    found = [_as_many_as_fit(share * LEAST_BYTES) for share in (0.5, 3.5, 1000.0)]
    assert found == [1, 3, 64]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "slrm"}, r'`cluster.kind` must be one of .*Did you mean "slurm"'),
        ({"kind": "slurm"}, r"`cluster.jobs` must be given where kind is"),
        ({"kind": "scheduler"}, r"`cluster.address` must be given"),
        (
            {"jobs": 2},
            r"`cluster.jobs` must be left out where kind is \"local\".*It reads workers, memory_GB",
        ),
        ({"wrokers": 2}, r'`cluster.wrokers` must be one of .*Did you mean "workers"'),
        ({"workers": 0}, r"`cluster.workers` must be a whole number of at least 1"),
        ({**JOBS, "walltime": "4h"}, r"`cluster.walltime` must be a time such as 04:00:00, but is \"4h\""),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ClusterConfig.of(given)


def test_a_file_says_where_workers_run(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[cluster]\nworkers = 3\n", encoding="utf-8")
    assert ClusterConfig.of(path) == ClusterConfig(workers=3)
    path.write_text("workers = 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="`workers` must be one of cluster, but is an unknown key"):
        ClusterConfig.of(path)
    with pytest.raises(InputError, match="`--cluster` must be a readable file"):
        ClusterConfig.of(tmp_path / "none.toml")


def test_a_scheduler_that_does_not_answer_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayesunmix.cluster.workers.ANSWER_SECONDS", 0.5)
    begin = time.monotonic()
    settings = ClusterConfig(kind="scheduler", address="tcp://127.0.0.1:9")
    with (
        pytest.raises(InputError, match=r"`cluster.address` must be .* does not within 0.5 s"),
        workers(settings, 1, {}),
    ):
        pass
    assert time.monotonic() - begin < 30.0


def test_a_job_has_a_worker_on_each_core() -> None:
    settings = ClusterConfig(**JOBS, queue="long", account="me", options={"job_cpu": 8})
    options = job_options(settings, {"NAME": "a b"})
    assert (options["cores"], options["processes"], options["memory"]) == (2, 2, "4GB")
    assert (options["queue"], options["account"], options["job_cpu"]) == ("long", "me", 8)
    assert "export NAME='a b'" in options["job_script_prologue"]
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False" in options["job_script_prologue"]
    assert job_options(ClusterConfig(**{**JOBS, "kind": "lsf"}, account="me"), {})["project"] == "me"


@pytest.mark.skipif(sys.platform == "win32", reason="batch systems run on Unix")
def test_a_batch_system_is_asked_for_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        (commands / name).write_text(text, encoding="utf-8")
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    settings = ClusterConfig(kind="slurm", jobs=5, cores=1, memory_GB=2)
    with workers(settings, 1, {}) as client:
        found = [one.result() for one in spread(abs, [-1, -2], client)]
    assert sorted(found) == [1, 2]
    # No more jobs than there is work for.
    assert len((commands / "started").read_text().split()) == 1


def test_an_option_that_the_batch_system_does_not_know_is_refused() -> None:
    settings = ClusterConfig(**JOBS, options={"walltme": "1:00"})
    said = r'`cluster.options.walltme` must be an option of dask-jobqueue.s SLURMCluster.*"walltime"'
    with pytest.raises(InputError, match=said), workers(settings, 1, {}):
        pass
