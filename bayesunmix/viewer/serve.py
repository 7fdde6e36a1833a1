"""The viewer in a browser, on the loopback address, and in a notebook."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bayesunmix.core.errors import InputError, check_integer
from bayesunmix.results.map_counts import AnyMap
from bayesunmix.results.result import Result

if TYPE_CHECKING:
    from bayesunmix.viewer.opened import Opened

ADDRESS = "127.0.0.1"
NEEDED = ("panel", "bokeh")
TITLE = "bayesunmix"


def check_installed() -> None:
    """Refuse to go on without Panel and Bokeh.

    Raises
    ------
    InputError
        With the command that installs them.
    """
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        raise InputError(
            "view",
            "have Panel and Bokeh at hand",
            f"{' and '.join(lacking)} cannot be imported",
            "Install them: pip install 'bayesunmix[view]'.",
        )


def view(results: Result | Sequence[Result], *, image: AnyMap | None = None) -> Any:  # noqa: ANN401
    """Show results in a notebook: choose a place on a map, see its spectrum, its fit and what it is made of.

    Parameters
    ----------
    results
        A result, or several of which one is shown at a time.
    image
        The map, where its file is gone.

    Returns
    -------
    panel.Row
        Shows itself at the end of a cell, where Jupyter has Panel's extension.

    Raises
    ------
    InputError
        If Panel or Bokeh is not installed, or something is no result.
    """
    check_installed()
    from bayesunmix.viewer.opened import opened_results

    opened = opened_results(results, image)
    import panel as pn

    from bayesunmix.viewer.app import Viewer

    if pn.state.curdoc is None:
        # Scripts are put into the notebook, so that nothing is fetched.
        pn.extension(inline=True)
    return Viewer(opened).page.layout


def start(opened: tuple[Opened, ...], port: int, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve the viewer until it is interrupted.

    Parameters
    ----------
    opened
        What is looked at.
    port
        Of the loopback address; 0 for one that is free.
    ready
        Told the address.

    Raises
    ------
    InputError
        If the port is taken.
    """
    import panel as pn

    from bayesunmix.viewer.app import page
    from bayesunmix.viewer.work import end_all

    port = _free(check_integer("--port", port, low=0, high=65535))
    server = pn.io.server.get_server(
        lambda: page(opened),
        port=port,
        address=ADDRESS,
        websocket_origin=[f"{ADDRESS}:{port}", f"localhost:{port}"],
        title=TITLE,
        start=False,
        show=False,
        verbose=False,
    )
    server.start()
    ready(f"http://{ADDRESS}:{port}/")
    try:
        server.io_loop.start()
    except KeyboardInterrupt:  # how a viewer is ended
        pass
    finally:
        end_all()


def _free(port: int) -> int:
    """Return the port, or one that is free for 0; one that is taken is refused."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                "--port", f"be one that can be opened on {ADDRESS}", f"is {port}: {error.strerror}"
            ) from None
        return int(tried.getsockname()[1])
