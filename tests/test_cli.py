"""Command line: exit status, one-line complaints, and nothing written where something is refused."""

import errno
import json
import os
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bayesunmix import __version__
from bayesunmix.cli import main
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.core.log import settle
from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.results.verdict import judge

TOML = """
phases = 2
[sample]
elements = ["Mg", "Si"]
"""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(TOML)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def assert_refused(result: Result, message: str) -> None:
    assert result.exit_code == 2
    assert re.fullmatch(f"bayesunmix: error: .*{message}.*\n", result.stderr), result.stderr
    assert result.stdout == ""
    assert os.listdir() == ["run.toml"]


class Recorder:
    """Stands for `run_unmix`: keeps what it was called with and answers as told."""

    def __init__(self, failed: tuple[str, ...] = (), error: BaseException | None = None) -> None:
        self.failed = failed
        self.error = error
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> types.SimpleNamespace:  # noqa: ANN401
        self.arguments, self.options = arguments, options
        if self.error is not None:
            raise self.error
        return types.SimpleNamespace(verdict=judge([Distrust(text) for text in self.failed]))


def install(monkeypatch: pytest.MonkeyPatch, module: str, **names: object) -> None:
    """Put a module with these names where the command looks for it."""
    monkeypatch.setitem(sys.modules, f"bayesunmix.{module}", types.SimpleNamespace(**names))


def unmix(*extra: str) -> Result:
    return run("unmix", "map.hspy", "--config", "run.toml", "--out", "out", *extra)


def test_help_and_version() -> None:
    assert "unmix" in run().stdout
    assert run("--version").stdout == f"bayesunmix, version {__version__}\n"
    for command in ("demo", "unmix", "simulate", "inspect", "report"):
        assert command in run("-h").stdout
        assert run(command, "--help").exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    """What makes it quick; `benchmarks/robustness.py` measures how quick."""
    script = (
        "import runpy, sys, json\n"
        "sys.argv = ['bayesunmix', 'unmix', '--help']\n"
        "try: runpy.run_module('bayesunmix', run_name='__main__')\n"
        "except SystemExit: print(json.dumps(sorted(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}
    heavy = {"jax", "numpyro", "hyperspy", "exspy", "rsciio", "matplotlib", "xarray", "pandas", "sklearn"}
    assert not loaded & (heavy | {"scipy", "xraylib", "tqdm", "rich", "psutil"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unmix"], "Missing argument 'MAP'"),
        (["unmix", "map.hspy"], "Missing option '--config'"),
        (["unmix", "map.hspy", "--config", "run.toml"], "Missing option '--out'"),
        (["unmix", "m", "--config", "no.toml", "--out", "out"], "`config` must be a readable file"),
        (
            ["unmix", "m", "--config", "run.toml", "--out", "out", "--method", "mcmc"],
            "'mcmc' is not one of 'nuts'",
        ),
        (["unmix", "m", "--config", "run.toml", "--out", "out", "--seed", "-1"], "-1 is not in the range"),
        (
            ["unmix", "m", "--config", "run.toml", "--out", "out", "--overwrite", "--resume"],
            "without --overwrite",
        ),
        (["unmix", "m", "--config", "run.toml", "--out", "run.toml"], '"run.toml" is a file'),
        (["unmix", "m", "--config", "run.toml", "--out", "."], '"." is not empty.*--resume'),
        (["demo", "--out", "."], '"." is not empty. Add --overwrite'),
        (["demo", "--method", "gibbs"], "'gibbs' is not one of"),
        (
            ["simulate", "--config", "run.toml", "--out", "a.hspy"],
            "`phases.phase 1.composition` must be given",
        ),
        (["inspect"], "Missing argument 'MAP'"),
        (["inspect", "map.hspy", "--elements", "Mg,Xx"], '`--elements` must be a chemical symbol.*"Xx"'),
        (["report", "."], "holds no run.json"),
        (["compare", "a", "b", "./a", "--out", "new"], '`DIR` must be different .* "a" is given twice'),
        (
            ["compare", "a", "b", "--out", "./b", "--overwrite"],
            '`--out` must lie outside the folders that are compared, but is "b"',
        ),
        (
            ["compare", "a", "b", "--out", "a/../b/more/deep"],
            '`--out` must lie outside the folders that are compared, but "a/../b/more/deep" lies in "b"',
        ),
        (["unmixx"], "No such command 'unmixx'"),
        (["--nonsense"], "No such option.*nonsense"),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    assert_refused(run(*arguments), message)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[sample", "`config` must be valid TOML"),
        (TOML + "colour = 3", "`sample.colour` must be one of"),
        (TOML + "[inference]\nlevel = 95", r"`inference.level` must lie between 0 and 1, but is 95\."),
        (TOML + "[inference]\ndraws = -5", "`inference.draws` must be a whole number"),
    ],
)
def test_configuration_is_checked_before_the_map(toml: str, message: str) -> None:
    Path("run.toml").write_text(toml)
    assert_refused(unmix(), message)


def simulation(shape: str = "[8, 8]") -> str:
    phase = '[[phases]]\nname = "Fp"\ncomposition = {Mg = 1.0}\nfraction = 1.0\n'
    return f'[sample]\nelements = ["Mg"]\n{phase}[simulate]\nshape = {shape}\nseed = 7\n'


@pytest.mark.parametrize(
    ("out", "message"),
    [("map.txt", "end in .hspy or .zspy"), ("no/map.hspy", "lie in an existing folder")],
)
def test_simulation_file_is_checked(out: str, message: str) -> None:
    Path("run.toml").write_text(simulation())
    assert_refused(run("simulate", "--config", "run.toml", "--out", out), message)


def test_existing_simulation_is_kept() -> None:
    Path("run.toml").write_text(simulation())
    Path("map.hspy").write_text("precious")
    result = run("simulate", "--config", "run.toml", "--out", "map.hspy")
    assert result.exit_code == 2
    assert '"map.hspy" is there already. Add --overwrite' in result.stderr
    assert Path("map.hspy").read_text() == "precious"


@pytest.mark.parametrize(("extra", "seed"), [([], 7), (["--seed", "0"], 0)])
def test_simulate_saves_the_map(monkeypatch: pytest.MonkeyPatch, extra: list[str], seed: int) -> None:
    Path("run.toml").write_text(simulation())
    asked: list[int] = []
    signal = types.SimpleNamespace(save=lambda name: Path(name).write_text("a map"))
    image = types.SimpleNamespace(
        to_signal=lambda: signal, image=types.SimpleNamespace(counts=np.zeros(3, np.uint8))
    )
    install(monkeypatch, "simulation.simulate", simulate_map=lambda config, seed: asked.append(seed) or image)
    assert run("simulate", "--config", "run.toml", "--out", "map.hspy", *extra).exit_code == 0
    assert asked == [seed]
    assert Path("map.hspy").read_text() == "a map"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["map.hspy", "run.toml"]


def test_a_simulation_that_fails_on_saving_leaves_the_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("run.toml").write_text(simulation())
    Path("map.hspy").write_text("precious")

    def save(name: str) -> None:
        Path(name).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image = types.SimpleNamespace(
        to_signal=lambda: types.SimpleNamespace(save=save),
        image=types.SimpleNamespace(counts=np.zeros(3, np.uint8)),
    )
    install(monkeypatch, "simulation.simulate", simulate_map=lambda config, seed: image)
    result = run("simulate", "--config", "run.toml", "--out", "map.hspy", "--overwrite")
    assert result.exit_code == 1
    assert Path("map.hspy").read_text() == "precious"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["map.hspy", "run.toml"]


def test_a_folder_that_is_no_map_is_not_replaced() -> None:
    Path("run.toml").write_text(simulation())
    Path("map.zspy").mkdir()
    Path("map.zspy/own.txt").write_text("precious")
    result = run("simulate", "--config", "run.toml", "--out", "map.zspy", "--overwrite")
    assert result.exit_code == 2
    assert "`--out` must be the name of a map" in result.stderr
    assert Path("map.zspy/own.txt").read_text() == "precious"


def test_unmix_hands_over_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    run_unmix = Recorder()
    install(monkeypatch, "pipeline", run_unmix=run_unmix)
    result = unmix("--method", "laplace", "--seed", "3", "--signal", "1")
    assert result.exit_code == 0
    assert result.stdout == "wrote out\n"
    path, config, out = run_unmix.arguments
    assert (path, out) == (Path("map.hspy"), Path("out"))
    assert config.inference.method == "laplace"
    assert run_unmix.options == {"seed": 3, "signal": 1, "overwrite": False, "resume": False}


def test_unmix_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    run_unmix = Recorder()
    install(monkeypatch, "pipeline", run_unmix=run_unmix)
    Path("out").mkdir()  # an empty folder is as good as none
    assert unmix().exit_code == 0
    assert run_unmix.options == {"seed": 0, "signal": None, "overwrite": False, "resume": False}
    assert run_unmix.arguments[1].inference.method == "nuts"


@pytest.mark.parametrize("flag", ["overwrite", "resume"])
def test_full_folder_needs_a_flag(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    run_unmix = Recorder()
    install(monkeypatch, "pipeline", run_unmix=run_unmix)
    Path("out").mkdir()
    Path("out/composition.csv").touch()
    assert unmix().exit_code == 2
    assert run_unmix.arguments == ()
    assert unmix(f"--{flag}").exit_code == 0
    assert run_unmix.options[flag] is True


def test_untrusted_result_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "pipeline", run_unmix=Recorder(failed=("R-hat of x is 1.2.", "3 divergences.")))
    result = unmix()
    assert result.exit_code == 3
    assert result.stdout == "wrote out\n"
    assert result.stderr.splitlines() == [
        "bayesunmix: verdict: not to be trusted",
        "bayesunmix: not to be trusted: R-hat of x is 1.2.",
        "bayesunmix: not to be trusted: 3 divergences.",
    ]


def test_reservations_are_printed_once_and_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is warned of during the run and is a finding is said by the verdict alone."""
    grain, assumed = Reservation("A grain."), "A default was assumed."

    def run_unmix(*arguments: object, **options: object) -> types.SimpleNamespace:
        warnings.simplefilter("always")
        for text in (grain, assumed):
            warnings.warn(text, BayesUnmixWarning, stacklevel=1)
        return types.SimpleNamespace(verdict=judge([grain, assumed]))

    install(monkeypatch, "pipeline", run_unmix=run_unmix)
    result = unmix()
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "bayesunmix: warning: A default was assumed.",
        "bayesunmix: verdict: with reservations",
        "bayesunmix: reservation: A grain.",
    ]


def test_bad_map_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        "pipeline",
        run_unmix=Recorder(error=InputError("MAP", "be a spectrum image", "is a text")),
    )
    assert_refused(unmix(), "`MAP` must be a spectrum image, but is a text.")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("ours"), "ZeroDivisionError: ours"),
        (ZeroDivisionError("ours\nin two lines"), "ZeroDivisionError: ours in two lines"),
        (EOFError(), "EOFError"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (MemoryError(), "the memory ran out"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "the memory ran out"),
        (OSError(28, "No space left on device"), "the disk is full"),
    ],
)
def test_fault_of_ours_is_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    install(monkeypatch, "pipeline", run_unmix=Recorder(error=error))
    result = unmix()
    assert result.exit_code == 1
    found = re.fullmatch(
        f"bayesunmix: error: {re.escape(said)}.*; details are in (.*\\.log)\n", result.stderr
    )
    assert found, result.stderr
    log = Path(found.group(1))
    assert "Traceback" in log.read_text()
    log.unlink()


def test_fault_after_the_folder_was_made_is_in_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_unmix(*arguments: object, **options: object) -> None:
        Path("out").mkdir()
        settle(Path("out"), {"jax": "1.2"})
        warnings.simplefilter("always")
        warnings.warn("odd", BayesUnmixWarning, stacklevel=1)
        raise ZeroDivisionError("ours")

    install(monkeypatch, "pipeline", run_unmix=run_unmix)
    result = unmix()
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "bayesunmix: warning: odd"
    assert result.stderr.splitlines()[-1] == (
        "bayesunmix: error: ZeroDivisionError: ours; finished stages are kept: the same command with --resume goes on;"
        f" details are in {Path('out', 'run.log')}"
    )
    log = Path("out/run.log").read_text()
    for part in ("with jax 1.2 on", "WARNING BayesUnmixWarning: odd", "Traceback", "ZeroDivisionError: ours"):
        assert part in log


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "inspection.description", inspect_map=Recorder(error=BrokenPipeError()))
    result = run("inspect", "map.hspy")
    assert (result.exit_code, result.stderr) == (0, "")


def test_interrupt_tells_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "pipeline", run_unmix=Recorder(error=KeyboardInterrupt()))
    result = unmix()
    assert result.exit_code == 130
    assert result.stderr == (
        "bayesunmix: interrupted; finished stages are kept: the same command with --resume goes on\n"
    )


def test_interrupt_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "inspection.description", inspect_map=Recorder(error=KeyboardInterrupt()))
    result = run("inspect", "map.hspy")
    assert result.exit_code == 130
    assert result.stderr.endswith("bayesunmix: interrupted\n")


def test_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def inspect_map(path: Path, elements: tuple[str, ...], signal: int | None, **axis: float | None) -> str:
        assert axis == {"energy_offset_keV": None, "energy_scale_keV": None}
        warnings.simplefilter("always")
        warnings.warn("the beam energy is not in the file", BayesUnmixWarning, stacklevel=1)
        return f"{path} {elements} {signal}"

    install(monkeypatch, "inspection.description", inspect_map=inspect_map)
    result = run("inspect", "map.hspy", "--elements", "Mg, Si", "--signal", "2")
    assert result.exit_code == 0
    assert result.stdout == "map.hspy ('Mg', 'Si') 2\n"
    assert result.stderr == "bayesunmix: warning: the beam energy is not in the file\n"


def test_demo_runs_nuts_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    run_demo = Recorder()
    install(monkeypatch, "demo", run_demo=run_demo)
    assert run("demo").exit_code == 0
    assert run_demo.arguments == (Path("bayesunmix-demo"), "nuts", 0, False)
    assert run("demo", "--out", "d", "--method", "laplace", "--seed", "2", "--overwrite").exit_code == 0
    assert run_demo.arguments == (Path("d"), "laplace", 2, True)


def test_report_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "report.page", write_report=lambda folder: folder / "report.html")
    Path("run.json").touch()
    assert run("report", ".").stdout == "wrote report.html\n"
