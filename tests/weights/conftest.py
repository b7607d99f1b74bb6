"""Catalogue folders of the tests' own: nothing here depends on what the package or this user's folder holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monai_tpseg.weights import lookup
from monai_tpseg.weights.pack import pack

from ..studies.conftest import write_weights

CARD = {
    "status": "research preview",
    "licence": "research use, non-commercial",
    "sources": [{"name": "phantoms", "tasks": ["wet_amd"], "pictures": 8, "terms": "Apache 2.0", "link": ""}],
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves: random weights for all tasks."""
    return write_weights(tmp_path_factory.mktemp("trained") / "model.pt")


@pytest.fixture(scope="session")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packed starter weights; read-only by agreement."""
    folder = tmp_path_factory.mktemp("packed")
    pack(trained, folder, "starter-tpseg", CARD)
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the package's, no folder of the user, none of the site, and no network."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(lookup, "_package", lambda: folder)
    monkeypatch.setattr(lookup, "user_folder", lambda: tmp_path / "user")
    monkeypatch.delenv(lookup.VARIABLE, raising=False)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every connection that is tried, by its address; none is made."""
    import socket

    tried: list[str] = []

    def refuse(kind: str) -> Callable[..., None]:
        def call(*args: object, **kwargs: object) -> None:
            tried.append(f"{kind} {args}")
            raise OSError("no network in this test")

        return call

    monkeypatch.setattr(socket.socket, "connect", refuse("connect"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo"))
    return tried
