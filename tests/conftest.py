"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_configure() -> None:
    """Two workers on two cores: more threads a process would only fight."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


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
