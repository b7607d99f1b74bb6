"""State of a node: `/health` for a supervisor, `/metrics` for Prometheus; only numbers, on the loopback interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from monai_tpseg.pacs.remote_nodes import PeerError

__all__ = ["Health", "Monitor", "metrics"]

_LOOPBACK = "127.0.0.1"


class Health(NamedTuple):
    """The state of a node.

    Attributes:
        ready: whether it accepts objects and segments studies.
        states: number of studies in each state.
        counters: counts since the node was created.
        used, quota: used and permitted disk space in bytes.
        overdue: delay of the oldest work in s.
    """

    ready: bool
    states: Mapping[str, int]
    counters: Mapping[str, int]
    used: int
    quota: int
    overdue: float

    @property
    def ok(self) -> bool:
        """Whether the node needs no attention."""
        return self.ready and self.used < self.quota


def metrics(health: Health) -> str:
    """Return the state in the text format of Prometheus."""
    lines = [
        "# TYPE tpseg_up gauge",
        f"tpseg_up {int(health.ok)}",
        "# TYPE tpseg_disc_bytes gauge",
        f"tpseg_disc_bytes {health.used}",
        "# TYPE tpseg_disc_quota_bytes gauge",
        f"tpseg_disc_quota_bytes {health.quota}",
        "# TYPE tpseg_overdue_seconds gauge",
        f"tpseg_overdue_seconds {health.overdue:.1f}",
        "# TYPE tpseg_studies gauge",
        *(f'tpseg_studies{{state="{state}"}} {number}' for state, number in health.states.items()),
    ]
    for name, value in health.counters.items():
        lines += [f"# TYPE tpseg_{name.lower()}_total counter", f"tpseg_{name.lower()}_total {value}"]
    return "\n".join(lines) + "\n"


class Monitor:
    """HTTP server for the two pages.

    Args:
        port: port on the loopback interface; 0 uses any free port.
        health: returns the current state of the node.
    """

    def __init__(self, port: int, health: Callable[[], Health]) -> None:
        self.wanted, self.health = port, health
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port, once the server is open."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def open(self) -> None:
        """Start the server.

        Raises:
            PeerError: the port is in use, or permission is denied.
        """
        try:
            self._server = ThreadingHTTPServer((_LOOPBACK, self.wanted), _pages(self.health))
        except OSError as error:
            raise PeerError(
                f"Port {self.wanted} cannot be opened ({error.strerror}); choose another --monitor-port."
            ) from error
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _pages(health: Callable[[], Health]) -> type[BaseHTTPRequestHandler]:
    class Pages(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            try:
                now = health()
            except (OSError, ValueError) as error:  # a queue that is damaged, or a disc that fails
                self._answer(503, "text/plain; charset=utf-8", f"{error}\n")
                return
            if self.path == "/health":
                text = json.dumps({"status": "ok" if now.ok else "look", **now._asdict()}) + "\n"
                self._answer(200 if now.ok else 503, "application/json", text)
            elif self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", metrics(now))
            else:
                self._answer(404, "text/plain; charset=utf-8", "Only /health and /metrics exist.\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Discard the log line of each request."""

    return Pages
