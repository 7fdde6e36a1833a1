"""Progress: a bar where one can move, lines elsewhere, and nothing left over however a stage ends."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
import types
import warnings

import pytest

from bayesunmix.core import progress
from bayesunmix.core.log import keeping
from bayesunmix.core.notebook import in_notebook
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


def test_a_file_is_neither_a_terminal_nor_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not progress._can_move()
    assert not in_notebook()
    for kernel in (object(), None):
        shell = types.SimpleNamespace(kernel=kernel)
        monkeypatch.setitem(
            sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        )
        assert in_notebook() == (kernel is not None)
        assert not progress._can_move()


class Shown:
    """IPython's display, and what it shows."""

    def __init__(self) -> None:
        self.frames: list[dict[str, str]] = []

    def display(self, frame: dict[str, str], *, raw: bool, display_id: bool) -> Shown:
        assert raw
        assert display_id
        assert not self.frames
        self.frames.append(frame)
        return self

    def update(self, frame: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.frames.append(frame)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Take the page of a notebook."""
    shown = Shown()
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=shown.display))
    monkeypatch.setattr(progress._Frames, "seconds", 0.01)
    return shown


def test_a_notebook_has_one_output_that_moves(page: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    for title in ("mode", "draws <2>"):
        with reporter.stage(title):
            until(lambda title=title: page.frames and f"{title}: 0 s" in page.frames[-1]["text/plain"])
            for share in ("25%", "75%"):
                reporter.advance(float(share[:-1]) / 100.0)
                until(lambda share=share: page.frames[-1]["text/plain"].endswith(share))
            reporter.say("a <b>detail</b>")
            until(lambda: "a <b>detail</b>" in page.frames[-1]["text/plain"])
    last = page.frames[-1]
    # What a saved notebook keeps of a run that fails later: a line for each stage, no details, and no bar.
    assert [line.split(":")[0] for line in last["text/plain"].splitlines()] == ["mode", "draws <2>"]
    assert "<progress" not in last["text/html"]
    bars = [frame["text/html"] for frame in page.frames if "<progress" in frame["text/html"]]
    assert any('value="0.750"' in bar and "draws &lt;2&gt;" in bar for bar in bars)
    assert all("<b>" not in frame["text/html"] for frame in page.frames)
    reporter.finish()
    said = page.frames[-1]["text/plain"]
    assert re.fullmatch(r"finished in \d s \(mode \d\.\d s; draws <2> \d\.\d s\)", said)
    assert "draws &lt;2&gt;" in page.frames[-1]["text/html"]
    assert capsys.readouterr() == ("", "")


def test_a_notebook_that_is_not_to_show_anything(page: Shown) -> None:
    reporter = Reporter(shown=False)
    with reporter.stage("mode"):
        reporter.advance(0.1)
        reporter.say("a detail")
    reporter.finish()
    assert page.frames == []
    with Reporter().stage("preparation", said=False):
        pass
    assert page.frames[-1]["text/plain"] == ""


def test_a_stage_that_fails_leaves_no_bar(page: Shown) -> None:
    def fail() -> None:
        until(lambda: page.frames)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), Reporter().stage("mode"):
        fail()
    assert "<progress" not in page.frames[-1]["text/html"]


def test_stages_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bayesunmix"), Reporter(shown=False).stage("mode"):
        pass
    assert [record.getMessage()[:11] for record in caplog.records] == ["mode begins", "mode: 0.0 s"]
