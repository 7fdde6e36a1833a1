"""What is said: through Python's ``logging``, as logger ``bayesunmix``, and in ``run.log`` of the output folder.

A program that has not set up logging sees nothing of it. While a command or a run goes on, `keeping` collects all that
is said, warnings of any library among it, and writes it into ``run.log`` as soon as there is a folder for it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TextIO, TypeVar

from bayesunmix.core.errors import InputError

LOGGER = logging.getLogger("bayesunmix")
LOGGER.addHandler(logging.NullHandler())
FILE = "run.log"

P = ParamSpec("P")
T = TypeVar("T")


class RunLog(logging.Handler):
    """Keeps what is said in memory until there is a file for it.

    Attributes
    ----------
    path
        The file; None as long as there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        self._lines: list[str] = []
        formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; a file that cannot be written is no reason to stop a run."""
        try:
            self._lines.append(self.format(record))
        except Exception:  # a message of somebody else's whose arguments do not fit
            self._lines.append(f"{record.levelname} {record.msg}")
        self._write()

    def settle(self, folder: Path) -> None:
        """Write into ``run.log`` of a folder from now on, and what has been said so far."""
        self.path = folder / FILE
        self._write()

    def rescue(self) -> Path | None:
        """Return the log's file, a temporary one where there is no folder; None where nothing can be written."""
        if self.path is None or self._lines:
            with contextlib.suppress(OSError):
                with tempfile.NamedTemporaryFile(
                    "w", prefix="bayesunmix-", suffix=".log", delete=False, encoding="utf-8"
                ) as stream:
                    self.path = Path(stream.name)
                self._write()
        return None if self._lines else self.path

    def _write(self) -> None:
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            text = "".join(f"{line}\n" for line in self._lines)
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            self._lines.clear()


def tell(level: int, text: str, error: BaseException | None = None) -> None:
    """Log a message, and the traceback of an error; an open `RunLog` has it whatever level the user's logging is at."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, "%s", text, exc_info=error)
        return
    record = LOGGER.makeRecord(
        name=LOGGER.name, level=level, fn="", lno=0, msg=text, args=(), exc_info=_about(error)
    )
    for log in _open_logs():
        log.handle(record)


def _about(
    error: BaseException | None,
) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
    return None if error is None else (type(error), error, error.__traceback__)


def _open_logs() -> list[RunLog]:
    return [handler for handler in LOGGER.handlers if isinstance(handler, RunLog)]


def settle(folder: Path, versions: dict[str, str]) -> None:
    """Let the log of this run lie in its output folder.

    Parameters
    ----------
    folder
        It exists.
    versions
        Of everything that decides the numbers; the log names them.
    """
    for log in _open_logs():
        log.settle(folder)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    tell(logging.INFO, f"run in {folder} with {named} on {sys.platform}")


@contextlib.contextmanager
def keeping() -> Iterator[RunLog]:
    """Collect what is said meanwhile; inside another `keeping`, in the log of that one."""
    present = _open_logs()
    if present:
        yield present[0]
        return
    log, former = RunLog(), warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        tell(logging.WARNING, f"{category.__name__}: {message}")
        with aside():
            former(message, category, filename, lineno, file=file, line=line)

    LOGGER.addHandler(log)
    warnings.showwarning = show
    try:
        yield log
    finally:
        LOGGER.removeHandler(log)
        if warnings.showwarning is show:
            warnings.showwarning = former


def logged(run: Callable[P, T]) -> Callable[P, T]:
    """Keep a log while a function runs, with the traceback where it fails."""

    @functools.wraps(run)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        if _open_logs():
            return run(*args, **kwargs)
        with keeping():
            try:
                return run(*args, **kwargs)
            except InputError as error:
                tell(logging.ERROR, str(error))
                raise
            except BaseException as error:
                tell(logging.ERROR, "The run failed.", error)
                raise

    return wrapper


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Print beside a moving bar: it is taken off the screen meanwhile."""
    loaded = sys.modules.get("tqdm")
    if loaded is None or not getattr(loaded.tqdm, "_instances", None):
        yield
        return
    with loaded.tqdm.external_write_mode(file=sys.stderr):
        yield


def log_uncaught() -> None:
    """Let errors of threads and of clean-up, which Python prints and nobody can act on, go into the log alone."""

    def of_thread(about: threading.ExceptHookArgs) -> None:
        tell(logging.ERROR, "An error in a thread.", about.exc_value)

    def of_cleaning(about: object) -> None:
        tell(logging.ERROR, "An error while cleaning up.", getattr(about, "exc_value", None))

    threading.excepthook = of_thread
    sys.unraisablehook = of_cleaning
