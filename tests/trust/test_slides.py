"""What is known about a slide is added up from its windows, and its contours lie around each other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage

from monai_tpseg import load_model
from monai_tpseg.cli.main import main
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.results import __file__ as results_file
from monai_tpseg.testing.phantoms.slide_phantom import make_slide, write_slide
from monai_tpseg.trust import Judge, Tally, Trust
from monai_tpseg.trust.fitted_files import read_fitted

TASK = "adenocarcinoma"


def segment(weights: Path, out: Path, *words: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the record of a slide of several windows."""
    path = out / "slide.tif"
    out.mkdir()
    write_slide(make_slide(0, (200, 240), 120)[0], path, mpp=0.5)
    common = ["--task", TASK, "--out", str(out / "run"), "--checkpoint", str(weights), "--quiet", "--mpp", "0.5"]
    main(["run", str(path), *common, "--slide-mpp", "0.5", *words])
    (record,) = (out / "run").glob("cases/*/result.json")
    found: dict[str, Any] = json.loads(record.read_text())
    schema = json.loads(Path(results_file).with_name("result.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    return record.parent, found


def test_a_slide_is_judged(tmp_path: Path, fitted: Path) -> None:
    folder, record = segment(fitted, tmp_path / "a", "--contours")
    assert record["trust"]["not_this_task"] is not None
    assert record["trust"]["expected_dice"] is not None
    inner, best, outer = (tifffile.imread(folder / record["files"][k]) > 0 for k in ("inner", "mask", "outer"))
    assert (inner <= best).all()
    assert (best <= outer).all()
    contours = record["trust"]["contours"]
    assert [int(inner.sum()), int(outer.sum())] == [contours["inner_voxels"], contours["outer_voxels"]]
    with (folder / record["files"]["lesions"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = ndimage.label(best, np.ones((3, 3)))[0]
    parts = ndimage.label(outer, np.ones((3, 3)))[0]
    area = np.prod(record["decisions"]["mpp"])
    assert sum(int(row["voxels"]) for row in rows) == best.sum() > 0
    for row in rows:
        assert float(row["size_inner"]) <= float(row["size"]) <= float(row["size_outer"])
    assert len(rows) == labels.max()
    assert sum(float(row["size_inner"]) for row in rows) == pytest.approx(inner.sum() * area, rel=1e-4)
    held = np.isin(parts, np.unique(parts[best])).sum()
    assert sum(float(row["size_outer"]) for row in rows) == pytest.approx(held * area, rel=1e-4)
    refused = record["trust"]["not_this_task"]["score"] > record["trust"]["not_this_task"]["limit"]
    assert ("not_this_task" in record["flags"]) is refused
    _, again = segment(fitted, tmp_path / "b", "--refuse")
    assert (again["code"] == "S_NOT_THIS_TASK") is refused


def test_parts_add_up_to_the_whole(fitted: Path) -> None:
    """A volume judged at once, and its slices one after the other in a tally."""
    fitted_file = read_fitted(fitted, read_info(fitted).sha256)
    rng = np.random.default_rng(0)
    prob = torch.tensor(rng.uniform(0, 1, (1, 16, 16, 5)) * np.array([0.2, 0.9, 1.0, 0.3, 0.8]), dtype=torch.float32)
    whole = Judge.beside(fitted, read_info(fitted)).judge(None, 1, prob, 0.5)
    tally = Tally(fitted_file, 1, 0.5)
    for n in range(5):
        tally.add(None, [prob[0, ..., n].numpy()])
    assert tally.trust() == whole
    assert whole.dice is not None
    assert whole.belonging is None


@pytest.mark.parametrize("peak", [0.1, 0.4])
def test_an_empty_mask_counts_by_its_largest_probability(fitted: Path, peak: float) -> None:
    judge = Judge.beside(fitted, read_info(fitted))
    prob = torch.zeros(1, 8, 8, 3)
    prob[0, 2, 2, 1] = peak
    alone = judge.judge(None, 0, prob[..., 1], 0.5)
    assert judge.judge(None, 0, prob, 0.5) == alone


def test_a_judge_without_weights_knows_nothing() -> None:
    """That of a `Segmenter` around a network that somebody made: it has no list of tasks either."""
    judge, prob = Judge(), torch.rand(1, 8, 8)
    assert judge.judge(None, 3, prob, 0.5) == Trust()
    assert judge.contours(3, prob, 0.5) is None
    assert not judge.knows
    assert not judge.refuses


def test_weights_alone_know_nothing_of_a_slide(tmp_path: Path, folder: Path) -> None:
    for name in ("model.pt", "model.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert load_model(tmp_path / "model.pt", "cpu").judge.digests == {}
    _, record = segment(tmp_path / "model.pt", tmp_path / "a")
    assert record["trust"] == {"not_this_task": None, "expected_dice": None, "contours": None}
