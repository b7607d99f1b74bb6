"""Weights of three tasks with all that `tpseg calibrate` fits beside them, from phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.cli.main import main
from monai_tpseg.testing.phantoms import make_phantom

from ..studies.conftest import write_weights

TASKS = ("skin_lesion", "brain_tumor", "adenocarcinoma")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of three tasks, and a datalist of 14 phantoms each; the first of each task lie apart."""
    out: Path = tmp_path_factory.mktemp("calibrate")
    write_weights(out / "model.pt", tasks=TASKS)
    entries = []
    for task in TASKS:
        for n in range(14):
            made = make_phantom(task, n, 32)
            image, label = (f"{task}_{n}{kind}.png" for kind in ("", "_mask"))
            Image.fromarray(made.image).save(out / image)
            Image.fromarray(np.asarray(made.label, np.uint8) * 255).save(out / label)
            entries.append({"image": image, "label": label, "task": task})
    (out / "datalist.json").write_text(json.dumps({"validation": entries}))
    return out


@pytest.fixture(scope="session")
def fitted(folder: Path) -> Path:
    """The weights, with all that is fitted beside them."""
    for kind in ("trust", "contours"):
        words = ["--data", str(folder / "datalist.json"), "--checkpoint", str(folder / "model.pt"), "--miss", "0.2"]
        assert main(["calibrate", *words, "--fit", kind, "--quiet"]) == 0
    return folder / "model.pt"
