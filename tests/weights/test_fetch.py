"""Downloads: only when asked, only what the digest says, and nothing is left of what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monai_tpseg.cli import main
from monai_tpseg.networks.weights_info import read_info
from tests.full_disc import largest_file

from .test_catalogue import change, put


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file to a client that may leave early: the server's traceback is none of the command's words."""
        with suppress(ConnectionError):
            super().copyfile(source, outputfile)


@pytest.fixture
def server(packed: Path) -> Iterator[str]:
    """The packed weights on a port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(packed))) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()


def test_fetching(package: Path, packed: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(packed, package)
    file.unlink()
    change(file, card={"url": f"{server}/starter-tpseg.safetensors", "size": 12345})
    assert main(["weights", "list"]) == 0
    assert "(not here)" in capsys.readouterr().out
    assert not file.exists()
    for _ in range(2):  # the second time it is there
        assert main(["weights", "fetch", "starter-tpseg"]) == 0
        assert capsys.readouterr().out == f"{file}\n"
    read_info(file, verify=True)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{server}/starter-tpseg.json", "instead of"),
        ("{server}/none.safetensors", "cannot be fetched"),
        ("http://127.0.0.1:1/x.safetensors", "cannot be fetched"),
        ("file:///etc/hosts", "have no download address"),
        ("", "have no download address"),
    ],
)
def test_what_is_wrong_is_not_kept(
    url: str, message: str, package: Path, packed: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = put(packed, package)
    file.unlink()
    change(file, card={"url": url.format(server=server)})
    assert main(["weights", "fetch", "starter-tpseg"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in package.iterdir()] == ["starter-tpseg.json"]


def test_a_full_disc_is_no_fault_of_the_server(
    package: Path, packed: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = put(packed, package)
    file.unlink()
    change(file, card={"url": f"{server}/starter-tpseg.safetensors"})
    with largest_file(1000):
        assert main(["weights", "fetch", "starter-tpseg"]) == 1
    assert capsys.readouterr().err == f"Error: '{file}': File too large; free some space, then repeat the command.\n"
    assert [path.name for path in package.iterdir()] == ["starter-tpseg.json"]
