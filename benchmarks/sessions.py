"""What one call of `performance` times: each thing when it is first asked for, and then kept."""

from __future__ import annotations

import json
import shutil
import sys
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal, get_args

from bench import Finished, Options, last_line, run_program
from espm_speed import ITERATIONS
from espm_speed import WORKER as ESPM_WORKER
from large import phantom, toml_of
from real_map import CONFIG, MAP
from timed import Checkout, Timed, environment, timed

NMF_WORKER = Path(__file__).resolve().parent / "nmf_worker.py"
# Before: the other checkout. Cold: no compiled programs. Warm: those of another map.
Kind = Literal["before", "cold", "warm"]
Command = Literal["laplace", "nuts", "demo"]
COMMANDS: tuple[Command, ...] = get_args(Command)
# The other map has about as many pixels as the real one, in another shape, more channels, and three other elements.
SHAPE = (180, 224)
OTHER_ELEMENTS = {"Nd": "La", "Sm": "Gd", "U": "Th"}


class Session:
    """Timed commands of this code and of another checkout.

    Parameters
    ----------
    options
        Where data are, where to write, and whether espm is there.
    before
        The other checkout; None where there is none.
    commands
        What is timed, of `COMMANDS`.
    repeat
        How often each command is.
    """

    def __init__(
        self,
        options: Options,
        before: Checkout | None = None,
        commands: tuple[Command, ...] = COMMANDS,
        repeat: int = 1,
    ) -> None:
        self.options, self.before, self.commands, self.repeat = options, before, commands, repeat
        self.this = Checkout.installed()
        self._numbers = count()
        self._runs: dict[tuple[Kind, Command], list[Timed]] = {}
        self._filled: dict[str, Path] = {}

    def new(self, name: str) -> Path:
        """Return a path at which nothing is yet."""
        return self.options.work / f"{next(self._numbers):02d}-{name}"

    def programs(self, kept: Path | None = None) -> Path:
        """Return the folder of compiled programs, emptied, or with what another folder holds.

        It is always the same one: JAX finds a program again only in a folder of the same name.
        """
        folder = self.options.work / "programs"
        shutil.rmtree(folder, ignore_errors=True)
        if kept is not None:
            shutil.copytree(kept, folder)
        return folder

    def run(self, kind: Kind, command: Command) -> Timed:
        """Time a command once more."""
        out = self.new(f"{command}-{kind}")
        # The older code keeps programs where it is told to: its users told it nothing.
        programs = (
            None if kind == "before" else self.programs(self.filled(command) if kind == "warm" else None)
        )
        checkout = self.this if kind != "before" else self.before
        if checkout is None:
            raise ValueError("there is no other checkout to time")
        done = timed(self.arguments(command), out, checkout, programs)
        self._runs.setdefault((kind, command), []).append(done)
        return done

    def best(self, kind: Kind, command: Command) -> Timed:
        """Return the run of a command that took the least processor time; time it where it has not been."""
        if (kind, command) not in self._runs:
            self.run(kind, command)
        return min(self._runs[kind, command], key=lambda one: one.program.cpu_seconds)

    def arguments(self, command: Command) -> tuple[str | Path, ...]:
        """Return what a command is called with, its output folder apart."""
        if command == "demo":
            return ("demo", "--method", "nuts")
        return ("unmix", self.real_map, "--config", CONFIG, "--method", command)

    @cached_property
    def real_map(self) -> Path:
        """The 71 GPa map."""
        return self.options.file(MAP).resolve()

    @cached_property
    def other_map(self) -> tuple[Path, Path]:
        """Another map and its configuration.

        Raises
        ------
        RuntimeError
            If it cannot be simulated.
        """
        config, spectrum_image = self.new("other.toml"), self.new("other.hspy")
        config.write_text(toml_of(other_phantom()), encoding="utf-8")
        timed(("simulate", "--config", config), spectrum_image, self.this, self.programs())
        return spectrum_image, config

    def filled(self, command: Command) -> Path:
        """Return a folder of the programs that the other map needs, by the method of a command."""
        method = "laplace" if command == "laplace" else "nuts"
        if method not in self._filled:
            spectrum_image, config = self.other_map
            programs = self.programs()
            arguments = ("unmix", spectrum_image, "--config", config, "--method", method)
            timed(arguments, self.new(f"other-{method}"), self.this, programs)
            self._filled[method] = Path(shutil.copytree(programs, self.new(f"programs-{method}")))
        return self._filled[method]

    @cached_property
    def espm(self) -> tuple[dict[str, float], Finished] | None:
        """Iterations of espm on the real map; None where no environment has it.

        Raises
        ------
        RuntimeError
            If it does not finish.
        """
        python = self.options.espm_python
        if python is None:
            return None
        # The interpreter is not resolved: a virtual environment's is a link to the one that it stands on.
        return _answer(python.absolute(), ESPM_WORKER, self.real_map, str(ITERATIONS))

    @cached_property
    def nmf(self) -> tuple[dict[str, float], Finished]:
        """KL-NMF of scikit-learn on the real map.

        Raises
        ------
        RuntimeError
            If it does not finish.
        """
        return _answer(Path(sys.executable), NMF_WORKER, self.real_map, "3", "1.0", "19.9")


def _answer(python: Path, worker: Path, *arguments: str | Path) -> tuple[dict[str, float], Finished]:
    own = environment(None)
    if python != Path(sys.executable):
        own.pop("PYTHONPATH", None)
    program = run_program((python, worker, *arguments), env=own)
    if program.code != 0:
        raise RuntimeError(f"{worker.name}: exit {program.code}, {last_line(program.stderr)}")
    return json.loads(last_line(program.stdout)), program


def other_phantom() -> dict[str, Any]:
    """Return the configuration of the other map: the embedded phantom on another grid, with three other elements."""
    config = _renamed(phantom(SHAPE[0]))
    config["simulate"]["shape"] = [*SHAPE]
    return config


def _renamed(value: Any) -> Any:  # noqa: ANN401 - any part of a configuration
    """Put other elements in the place of some, wherever they are named."""
    if isinstance(value, dict):
        return {OTHER_ELEMENTS.get(key, key): _renamed(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(entry) for entry in value]
    return OTHER_ELEMENTS.get(value, value) if isinstance(value, str) else value
