"""The bundle's inference and evaluation take a task that `tpseg new-task` added, by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from monai_tpseg.engines.new_task import add_task_to_weights
from monai_tpseg.testing.phantoms import make_phantom, write_png
from tests.studies.conftest import write_weights

from .conftest import run

NAME = "mole"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with masks, a datalist that validates on one, and weights that know their task."""
    folder = tmp_path_factory.mktemp("new_task")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for n in range(2):
        phantom = make_phantom("skin_lesion", n, 40)
        write_png(phantom.image, folder / "images" / f"p{n}.png")
        write_png(phantom.label, folder / "masks" / f"p{n}.png")
    entries = [{"image": f"images/p{n}.png", "label": f"masks/p{n}.png", "task": NAME} for n in range(2)]
    (folder / "datalist.json").write_text(json.dumps({"training": entries[:1], "validation": entries[1:]}))
    weights = write_weights(folder / "model.pt")
    add_task_to_weights(NAME, folder / "datalist.json", weights, folder / "w2.pt", "dermoscopy")
    return folder


def test_inference(bundle_dir: Path, data: Path, tmp_path: Path) -> None:
    where = {"dataset_dir": str(data / "images"), "checkpoint": str(data / "w2.pt"), "output_dir": str(tmp_path)}
    run(bundle_dir, "inference", task=NAME, **where)
    record = json.loads((tmp_path / f"p1_{NAME}_result.json").read_text())
    assert (record["task"], record["provenance"]["model"]["modalities"]) == (NAME, {NAME: "dermoscopy"})
    assert (tmp_path / f"p1_{NAME}_overlay.png").is_file()


def test_evaluate(bundle_dir: Path, data: Path, tmp_path: Path) -> None:
    run(bundle_dir, "evaluate", dataset_dir=str(data), checkpoint=str(data / "w2.pt"), output_dir=str(tmp_path))
    tables = [list(csv.DictReader(path.open())) for path in sorted(tmp_path.rglob("*.csv"))]
    assert any(NAME in row.values() for table in tables for row in table)
