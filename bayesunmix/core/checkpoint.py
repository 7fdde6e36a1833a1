"""Finished stages on disk, so that an interrupted run goes on where it stopped.

Each stage's result lies in a hidden folder of the output folder until the run is complete, as one file in NumPy's npz
format: the arrays, a text in JSON that says how they belong together (`bayesunmix.core.parts`), and a checksum of all
of it. The text names everything that the result depends on. What is damaged or answers another question is not used but
computed anew, and reading runs nothing that a file holds.

Of several processes (`bayesunmix.core.processes`) the first one keeps the stages, and all go on with what it has: none
finds a stage that another one lacks, and rounding that differs between machines does not grow from stage to stage.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from bayesunmix.core import processes
from bayesunmix.core.errors import warn
from bayesunmix.core.parts import Array, PartsError, Tree, declared, put_together, take_apart
from bayesunmix.core.whole_file import whole_file

Result = TypeVar("Result")
Facts = Mapping[str, Any]
FOLDER = ".stages"
# What the stages of a folder depend on.
FACTS = "facts.json"
ABOUT, CHECKSUM = "about", "checksum"
LONGEST_SHOWN = 50

logger = logging.getLogger(__name__)


class Stages:
    """Runs stages once.

    Parameters
    ----------
    folder
        Output folder; None keeps nothing.
    facts
        All that the results depend on, JSON-able.
    resume
        Use what an earlier run with the same facts has finished.
    """

    def __init__(self, folder: Path | None, facts: Facts, *, resume: bool) -> None:
        self.key = hashlib.sha256(canonical(facts).encode()).hexdigest()
        self.timings: dict[str, float] = {}
        self.resumed: list[str] = []
        self._folder = None if folder is None else folder / FOLDER
        if self._folder is not None and not resume:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._keeping = self._folder is not None
        self._keep(FACTS, lambda path: _write_text(path, canonical(facts)))

    def run(self, name: str, compute: Callable[[], Result], kind: object = Any) -> Result:
        """Return a stage's result, from disk where an earlier run has finished it.

        Parameters
        ----------
        name
            Of the stage.
        compute
            Gives its result: plain values, arrays, and frozen dataclasses and named tuples of them.
        kind
            Type of the result; what is on disk is used only if it is of this type.
        """
        kept = self._kept(name, kind)
        if kept is not None:
            self.timings[name], result = kept
            self.resumed.append(name)
            return result  # type: ignore[no-any-return]
        begin = time.perf_counter()
        computed = compute()
        self.timings[name] = time.perf_counter() - begin
        try:
            tree, arrays = take_apart(computed)
            # What goes on is what is kept, in the same order of memory, so that a resumed run rounds alike.
            result = put_together(tree, arrays)
        except PartsError as error:
            warn(f"The stage `{name}` cannot be kept: {error}.")
            return computed
        about = {"key": self.key, "seconds": self.timings[name], "tree": tree}
        if processes.number() > 1:
            sent = processes.from_first(lambda: _encoded(about, arrays))
            result = put_together(tree, _read(io.BytesIO(sent))[1])
        self._keep(f"{name}.npz", lambda path: _write(path, about, arrays))
        return result  # type: ignore[return-value]

    def finish(self) -> None:
        """Remove the kept stages: the run is complete."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _kept(self, name: str, kind: object) -> tuple[float, Any] | None:
        """Return seconds and result of a stage on disk, or None where there is none that can be used."""
        # A process that is lost damages no file: what that raises is for the run to tell.
        sent = processes.from_first(lambda: self._held(name)) if processes.number() > 1 else None
        try:
            stored = self._opened(name) if sent is None else io.BytesIO(sent)
            if stored is None or sent == b"":
                return None
            with stored as stream:
                about, arrays = _read(stream)
            if about["key"] != self.key:
                raise ValueError("it belongs to another run")
            result = put_together(about["tree"], arrays)
            if not declared(result, kind):
                raise PartsError("it holds something else")
            return float(about["seconds"]), result
        except Exception as error:
            # Whatever is wrong with a file, its stage can be computed anew.
            logger.debug("%s cannot be used", name, exc_info=True)
            warn(f"The kept stage `{name}` is not used but computed anew: {error or type(error).__name__}.")
            return None

    def _opened(self, name: str) -> IO[bytes] | None:
        """Open a stage on disk; None where there is none."""
        path = None if self._folder is None else self._folder / f"{name}.npz"
        return path.open("rb") if path is not None and path.exists() else None

    def _held(self, name: str) -> bytes:
        """Read what the disk holds of a stage; nothing where it holds none, or does not give it."""
        with suppress(OSError):
            stored = self._opened(name)
            if stored is not None:
                with stored:
                    return stored.read()
        return b""

    def _keep(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file of the hidden folder, and go on without where the disk does not take it."""
        if self._folder is None or not self._keeping:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write(self._folder / name)
        except OSError as error:
            self._keeping = False
            with suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
            reason = error.strerror or str(error)
            warn(
                f"Finished stages cannot be kept any more ({reason}): the run goes on, but could not be resumed."
            )


def canonical(facts: Facts) -> str:
    """Write facts as JSON in one way."""
    return json.dumps(facts, sort_keys=True, default=str)


def kept_facts(folder: Path) -> dict[str, Any] | None:
    """Return what the stages kept in an output folder depend on, or None where that cannot be known."""
    try:
        facts = json.loads((folder / FOLDER / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def what_differs(there: Facts, here: Facts) -> str | None:
    """Say in which fact two runs differ first, in the order of the second's, or None if in none.

    Examples
    --------
    >>> what_differs({"seed": 1, "configuration": {"level": 0.9}}, {"configuration": {"level": 0.95}, "seed": 2})
    'configuration.level: 0.9 there, 0.95 here'
    """
    return _difference("", *(json.loads(json.dumps(facts, default=str)) for facts in (there, here)))


def _difference(name: str, there: object, here: object) -> str | None:
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = {key: (there.get(key), here.get(key)) for key in [*here, *there]}
        found = (_difference(f"{name}.{key}" if name else key, *pair) for key, pair in pairs.items())
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        found = (_difference(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(there, here, strict=True)))
    else:
        # As texts: nan differs from itself.
        texts = [json.dumps(each) for each in (there, here)]
        return None if texts[0] == texts[1] else f"{name}: {_shown(*texts)}"
    return next((each for each in found if each is not None), None)


def _shown(there: str, here: str) -> str:
    """Show two values beside each other, if they are short enough to tell a reader something."""
    if max(len(there), len(here)) > LONGEST_SHOWN:
        return "not the same"
    there, here = ("not given" if text == "null" else text for text in (there, here))
    return f"{there} there, {here} here"


def _write(path: Path, about: Mapping[str, Tree], arrays: Sequence[Array]) -> None:
    with whole_file(path) as stream:
        _encode(stream, about, arrays)


def _encoded(about: Mapping[str, Tree], arrays: Sequence[Array]) -> bytes:
    stream = io.BytesIO()
    _encode(stream, about, arrays)
    return stream.getvalue()


def _encode(stream: IO[bytes], about: Mapping[str, Tree], arrays: Sequence[Array]) -> None:
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    members: dict[str, Any] = {ABOUT: text, CHECKSUM: _checksum(text, arrays)}
    members |= {f"array_{place}": array for place, array in enumerate(arrays)}
    np.savez(stream, **members)


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], list[Array]]:
    """Read what `_encode` wrote.

    Raises
    ------
    Exception
        Of whatever kind the damage of a file provokes.
    """
    with np.load(stream, allow_pickle=False) as stored:
        text, checksum = stored[ABOUT], stored[CHECKSUM]
        arrays = [stored[f"array_{place}"] for place in range(len(stored.files) - 2)]
    if checksum.tobytes() != _checksum(text, arrays).tobytes():
        raise ValueError("its checksum is not right")
    about = json.loads(text.tobytes())
    if not isinstance(about, dict):
        raise PartsError("it does not say what it holds")
    return about, arrays


def _checksum(text: Array, arrays: Sequence[Array]) -> Array:
    """SHA-256 of the text and of type, shape, order and bytes of the arrays, (32,) bytes."""
    digest = hashlib.sha256(text.tobytes())
    for array in arrays:
        rows = array if array.flags.c_contiguous else array.T
        digest.update(f"\n{array.dtype.str} {rows.shape} {array.flags.c_contiguous}\n".encode())
        digest.update(rows.reshape(-1).view(np.uint8).data)
    return np.frombuffer(digest.digest(), np.uint8)


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as stream:
        stream.write(text.encode())
