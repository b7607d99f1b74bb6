"""Serve the viewer on a local port and open a browser, until Ctrl-C."""

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
_GRACE = 5  # grace period of open requests after Ctrl-C, in s


def listen(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1 only.

    Args:
        port: port number; 0 uses any free port.

    Raises:
        StudyError: the port is in use or not permitted.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would share a port in use
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # reuse after a restart
        made.bind((_HOST, port))
        made.listen(64)
    except (OSError, OverflowError) as error:
        made.close()
        raise StudyError(f"Port {port} of 127.0.0.1 cannot be used; omit --port to use a free one.") from error
    return made


def make_server(workspace: Workspace, port: int) -> tuple[uvicorn.Server, AccessMiddleware]:
    """Return a server that is not started yet, and its access middleware.

    Args:
        workspace: workspace with the cases.
        port: port of its socket.
    """
    access = AccessMiddleware(create_app(workspace), port, LIMITS)
    quiet = partial(uvicorn.Config, log_config=None, log_level="critical", access_log=False, server_header=False)
    return uvicorn.Server(quiet(access, ws="none", lifespan="off", timeout_graceful_shutdown=_GRACE)), access


def serve(workspace: Workspace, port: int = 0, browser: bool = True) -> None:
    """Serve the viewer until Ctrl-C or SIGTERM.

    Args:
        workspace: workspace with the cases.
        port: port on 127.0.0.1; 0 uses any free port.
        browser: whether to open a browser.

    Raises:
        StudyError: see `listen`.
    """
    with listen(port) as made:
        server, access = make_server(workspace, made.getsockname()[1])
        logger.info("Open %s (on this machine only; Ctrl-C stops).", access.address)
        if browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(access.address_once(),), daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):  # raised only if the parent process does not ignore Ctrl-C
                server.run(sockets=[made])
            logger.info("Stopped. Repeat the command with --resume to continue.")
        finally:
            workspace.close()


def _has_screen() -> bool:
    """Return whether there is a display; without one, a text browser would start."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in screens)
