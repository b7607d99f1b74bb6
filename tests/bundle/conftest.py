"""A copy of the bundle, phantoms, and one short training that the tests of the bundle share."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import pytest

from monai_tpseg.testing.phantoms import write_dataset, write_demo_cases

NAME = "tpseg_lesion_segmentation"
SOURCE = Path(__file__).resolve().parents[2] / "bundles" / NAME
SMALL: dict[str, Any] = {
    "backbone": "hiera_demo",
    "recipe": "from_scratch",
    "image_size": 32,
    "batch_size": 4,
    "max_epochs": 2,
    "num_workers": 0,
    "epoch_cases": 8,
    "progress": False,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in another folder than the repository, and leave search path and logging as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    yield
    _restore_logging()


def _restore_logging() -> None:
    """Undo `logging.conf`: MONAI's way of reading it silences every logger that exists by then."""
    logging.root.handlers = [h for h in logging.root.handlers if type(h) is not logging.StreamHandler]
    logging.root.setLevel(logging.WARNING)
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle, read-only."""
    return read_only_copy(SOURCE, tmp_path_factory.mktemp("bundles"))


def read_only_copy(bundle: Path, parent: Path) -> Path:
    """Copy a bundle into `parent`, where nobody may write into it."""
    folder = parent / bundle.name
    shutil.copytree(bundle, folder)
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training pictures and one validation picture a task, each for both lesions it shows."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, train_per_task=2, val_per_task=1, size=48, both_tasks=1.0)
    write_demo_cases(folder / "demo")
    return folder


def run(bundle: Path, config: str | list[str], **overrides: Any) -> None:
    """Run configs of the bundle in this process."""
    names = [config] if isinstance(config, str) else config
    files = [str(bundle / "configs" / f"{name}.json") for name in names]
    monai.bundle.run(config_file=files if len(files) > 1 else files[0], **overrides)


@pytest.fixture(scope="session")
def trained(bundle_dir: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a training of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    here = Path.cwd()
    os.chdir(folder.parent)
    try:
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir=str(folder), **SMALL)
    finally:
        os.chdir(here)
        _restore_logging()
    return folder


def history(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's history, one per epoch."""
    entries: list[dict[str, Any]] = json.loads((folder / "history.json").read_text())
    return entries
