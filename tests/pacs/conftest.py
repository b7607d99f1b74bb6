"""Programs of Debian, an Orthanc for each module, and weights of the smallest network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pacs.servers import NodeProcess, Orthanc, free_port
from tests.studies.conftest import write_weights

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def _absent(what: str, package: str) -> None:
    if os.environ.get("TPSEG_REQUIRE_TOOLS"):
        pytest.fail(f"no {what}, which TPSEG_REQUIRE_TOOLS asks for")
    pytest.skip(f"no {what} on this machine (Debian: apt-get install {package})")


@pytest.fixture(scope="session")
def storescu() -> str:
    """DCMTK's sender."""
    path = shutil.which("storescu")
    if path is None:
        _absent("storescu", "dcmtk")
    return str(path)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for all tasks."""
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An archive that pushes each study that is stable to the port `orthanc.node_port`."""
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        _absent("Orthanc", "orthanc")
    if not _PLUGIN.exists():
        _absent(str(_PLUGIN), "orthanc-dicomweb")
    made = Orthanc(str(program), tmp_path_factory.mktemp("orthanc"), _PLUGIN, free_port(), push=True).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, weights: Path, orthanc: Orthanc) -> Iterator[NodeProcess]:
    """Our node beside it; about half of the voxels are lesion."""
    folder = tmp_path_factory.mktemp("node")
    made = NodeProcess(folder, weights, orthanc.node_port, orthanc.peer, "--threshold", "0.4").start()
    yield made
    made.stop()
