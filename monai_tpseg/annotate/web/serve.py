"""The viewer runs: a port of this machine alone, a browser, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from functools import partial

import uvicorn

from monai_tpseg.annotate.web.security import AccessMiddleware
from monai_tpseg.annotate.web.server import LIMITS, create_app
from monai_tpseg.annotate.web.workspace import Workspace
from monai_tpseg.results.codes import StudyError

__all__ = ["listen", "make_server", "serve"]

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_GRACE = 5  # seconds that open requests get after Ctrl-C


def listen(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1 only.

    Args:
        port: 0 takes a free one.

    Raises:
        StudyError: the port is taken or not allowed.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would share a port that is taken
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of a viewer that has just ended
        made.bind((_HOST, port))
        made.listen(64)
    except (OSError, OverflowError) as error:
        made.close()
        raise StudyError(f"Port {port} of 127.0.0.1 cannot be used; omit --port to use a free one.") from error
    return made


def make_server(workspace: Workspace, port: int) -> tuple[uvicorn.Server, AccessMiddleware]:
    """Return a server that is not running yet, and the middleware in front of it.

    Args:
        workspace: whose cases it shows.
        port: of the socket that it will be given.
    """
    access = AccessMiddleware(create_app(workspace), port, LIMITS)
    quiet = partial(uvicorn.Config, log_config=None, log_level="critical", access_log=False, server_header=False)
    return uvicorn.Server(quiet(access, ws="none", lifespan="off", timeout_graceful_shutdown=_GRACE)), access


def serve(workspace: Workspace, port: int = 0, browser: bool = True) -> None:
    """Serve the viewer until Ctrl-C or SIGTERM.

    Args:
        workspace: whose cases it shows.
        port: of 127.0.0.1; 0 takes a free one.
        browser: open it there.

    Raises:
        StudyError: see `listen`.
    """
    with listen(port) as made:
        server, access = make_server(workspace, made.getsockname()[1])
        logger.info("Open %s (on this machine only; Ctrl-C stops).", access.address)
        if browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(access.address_once(),), daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):  # it comes only where Ctrl-C is not ignored by who started this process
                server.run(sockets=[made])
            logger.info("Stopped. Repeat the command with --resume to continue.")
        finally:
            workspace.close()


def _has_screen() -> bool:
    """Without one, the browser would be one for the terminal."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in screens)
