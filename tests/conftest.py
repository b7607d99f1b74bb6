"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import absl.logging
import pytest
import torch

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")


def pytest_configure() -> None:
    """Two workers on two cores: more threads a process would only fight.

    Ctrl-C and a closed terminal work also where the tests themselves run in the background and would not hear of them:
    their children would not either, and tests that stop one would wait without end.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    # absl, which TensorBoard imports, keeps the stream of that moment and closes it when a bundle sets its logging up:
    # it would be the file that pytest captures into
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with golden values and real data beside the checkout; tests that need it skip when it is absent."""
    if not SHARED.is_dir():
        if os.environ.get("TPSEG_REQUIRE_SHARED"):
            pytest.fail(f"no {SHARED}, which TPSEG_REQUIRE_SHARED asks for")
        pytest.skip("no ../shared folder beside this checkout (golden values and real data)")
    return SHARED


def _tool(name: str, package: str) -> str:
    """Path of a program of Debian; tests that need it skip when it is absent, unless TPSEG_REQUIRE_TOOLS is set."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("TPSEG_REQUIRE_TOOLS"):
            pytest.fail(f"no {name}, which TPSEG_REQUIRE_TOOLS asks for")
        pytest.skip(f"no {name} on this machine (Debian: apt-get install {package})")
    return path


@pytest.fixture(scope="session")
def dciodvfy() -> str:
    """David Clunie's validator of DICOM objects."""
    return _tool("dciodvfy", "dicom3tools")


@pytest.fixture(scope="session")
def spreadsheet() -> str:
    """LibreOffice."""
    return _tool("soffice", "libreoffice-calc")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a network to speak of; tests that need it skip when it is absent."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("TPSEG_REQUIRE_BROWSER"):
            pytest.fail("no chromium, which TPSEG_REQUIRE_BROWSER asks for")
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_QUIET)
        yield found
        found.close()


@pytest.fixture(autouse=True)
def _loggers_on() -> None:
    """A bundle that ran in this process may have switched loggers off (`logging.config.fileConfig` does)."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("monai_tpseg") and isinstance(logger, logging.Logger):
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)
