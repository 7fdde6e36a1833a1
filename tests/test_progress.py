"""Progress: a bar where one can move, lines elsewhere, and nothing left over however a stage ends."""

from __future__ import annotations

import io
import logging
import sys
import time
import types
import warnings

import pytest

from bayesunmix.core import progress
from bayesunmix.core.log import keeping
from bayesunmix.core.progress import Reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def until(done: object) -> None:
    """Wait for another thread, as long as that takes."""
    while not done():  # type: ignore[operator]
        time.sleep(0.01)


def test_lines_where_nothing_can_move(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress._Lines, "seconds", 0.01)
    reporter = Reporter()
    with reporter.stage("mode"):
        until(lambda: "mode: 0 s\n" in stream.getvalue())
        reporter.advance(0.42)
        until(lambda: "mode: 42% done, 0 s\n" in stream.getvalue())
        reporter.say("a detail")
    assert stream.getvalue().splitlines()[-1].startswith("mode: 0.")
    assert "a detail" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_bar_moves_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress._Bar, "seconds", 0.01)
    reporter = Reporter()
    with keeping(), reporter.stage("draws"):
        until(lambda: "draws: 00:00" in stream.getvalue())
        reporter.advance(0.5)
        until(lambda: "50 % |" in stream.getvalue())
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: stream.write(f"warned: {message}\n")  # type: ignore[assignment]
        reporter.say("a detail")
    # What is said stands on lines of its own, and the bar is gone at the end.
    assert "\n  a detail\n" in stream.getvalue().replace("\r", "\n")
    assert stream.getvalue().splitlines()[-1].startswith("draws: 0.")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_ends_the_bar(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    from tqdm import tqdm

    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(error), Reporter().stage("draws"):
        raise error
    assert not [bar for bar in tqdm._instances if bar.desc == "draws"]


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(shown=False)
    with reporter.stage("mode"):
        reporter.advance(0.1)
        reporter.say("a detail")
    assert capsys.readouterr() == ("", "")


def test_a_stage_may_leave_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().stage("preparation", said=False):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [Gone(), None])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, stream: object) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with Reporter().stage("mode"):
        pass


def test_a_notebook_is_no_terminal_and_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not progress._can_move()
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert progress._can_move()


def test_stages_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bayesunmix"), Reporter(shown=False).stage("mode"):
        pass
    assert [record.getMessage()[:11] for record in caplog.records] == ["mode begins", "mode: 0.0 s"]
