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

from monai_tpseg.annotate.web.security import Door
from monai_tpseg.annotate.web.server import LIMITS, create_app
from monai_tpseg.annotate.web.workspace import Desk
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
        raise StudyError(f"Port {port} of 127.0.0.1 cannot be used; leave --port out to take a free one.") from error
    return made


def make_server(desk: Desk, port: int) -> tuple[uvicorn.Server, Door]:
    """Return a server that is not running yet, and its door.

    Args:
        desk: whose cases it shows.
        port: of the socket that it will be given.
    """
    door = Door(create_app(desk), port, LIMITS)
    quiet = partial(uvicorn.Config, log_config=None, log_level="critical", access_log=False, server_header=False)
    return uvicorn.Server(quiet(door, ws="none", lifespan="off", timeout_graceful_shutdown=_GRACE)), door


def serve(desk: Desk, port: int = 0, browser: bool = True) -> None:
    """Serve the viewer until Ctrl-C or SIGTERM.

    Args:
        desk: whose cases it shows.
        port: of 127.0.0.1; 0 takes a free one.
        browser: open it there.

    Raises:
        StudyError: see `listen`.
    """
    with listen(port) as made:
        server, door = make_server(desk, made.getsockname()[1])
        logger.info("Open %s (on this machine only; Ctrl-C stops).", door.address)
        if browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(door.address_once(),), daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):  # it comes only where Ctrl-C is not ignored by who started this process
                server.run(sockets=[made])
            logger.info("Stopped. The same command with --resume goes on.")
        finally:
            desk.close()


def _has_screen() -> bool:
    """Without one, the browser would be one for the terminal."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in screens)
