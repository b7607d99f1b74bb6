"""docs/own-data.md as it stands: its commands run one after the other on masks that come from the viewer."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.annotate import PromptModel
from monai_tpseg.cli import main
from monai_tpseg.networks import kprism_demo
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.results.codes import StudyError
from monai_tpseg.studies.annotated import annotated_cases
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_nifti, write_png
from monai_tpseg.training import TrainOptions
from monai_tpseg.training.lists import write_lists
from monai_tpseg.transforms import pipelines_hash
from tests.annotate.serving import serving
from tests.studies.conftest import write_weights

from .test_train import write_pairs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-data.md"
TASKS = ("skin_lesion", "lung_infection")


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("tpseg ")]


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> PromptModel:
    """K-Prism for two tasks."""
    path = tmp_path_factory.mktemp("k") / "k.pt"
    network = {"architecture": "kprism", "backbone": "utnet_demo"}
    info = WeightsInfo(TASKS, network, (32, 32), preprocessing=pipelines_hash())
    save_weights(path, kprism_demo(len(TASKS)).state_dict(), info)
    return PromptModel(path, "cpu")


def draw(source: Path, model: PromptModel, out: Path, task: str, number: int, slices: tuple[int, ...] = (0,)) -> None:
    """Draw a stroke in each case of a viewer and save it, all but the last case."""
    with serving(source, model, out, task) as viewer:
        for case in range(number):
            viewer.post("open", case=case, task=None)
            for index in slices:
                points = [[10, 8], [10, 20]]
                viewer.post("brush", case=case, index=index, points=points, diameter=5, mark=True)
            viewer.post("save", case=case)


def test_the_commands_of_the_page_run(prompted: PromptModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = write_weights(tmp_path / "start" / "model.pt", tasks=TASKS)
    (tmp_path / "scans").mkdir()
    for n in range(4):
        write_png(make_phantom("skin_lesion", n, 40).image, tmp_path / "scans" / f"s{n}.png")
    write_pairs(tmp_path / "moles", "skin_lesion", 4)
    monkeypatch.chdir(tmp_path)
    small = ["--checkpoint", str(weights), "--epochs", "1", "--batch-size", "4", "--device", "cpu"]
    listed = commands()
    assert {line.split()[1] for line in listed} == {"annotate", "train", "run", "prepare"}
    for line in listed:
        words = shlex.split(line)[1:]
        if words[0] == "annotate":
            assert words[1:] == ["scans", "--task", "skin_lesion", "--out", "annotations"]
            draw(Path("scans"), prompted, Path("annotations"), "skin_lesion", 3)
            continue
        if words[0] == "train" and (tmp_path / "run").exists():
            (tmp_path / "run").rename(tmp_path / "first_run")
        more = {"train": small, "run": ["--device", "cpu"]}.get(words[0], [])
        assert main([*words, *more]) == 0, line
    assert len(list((tmp_path / "results" / "cases").iterdir())) == 4
    lists = json.loads((tmp_path / "first_run" / "datalist.json").read_text())
    assert (len(lists["training"]), len(lists["validation"])) == (2, 1)
    again = json.loads((tmp_path / "run_of_list" / "datalist.json").read_text())
    assert [len(again[name]) for name in ("training", "validation")] == [2, 1]
    for entry in (*lists["training"], *lists["validation"]):
        mask = np.asarray(Image.open(tmp_path / "first_run" / entry["label"]))
        assert mask[10, 8:21].all()
        assert not mask[20:].any()


def test_slices_that_nobody_looked_at_teach_nothing(prompted: PromptModel, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(2):
        write_nifti(make_volume("lung_infection", n, (40, 36, 6)), scans / f"v{n}.nii.gz")
        (scans / f"v{n}_label.nii.gz").unlink()
    out = tmp_path / "annotations"
    draw(scans, prompted, out, "lung_infection", 2, slices=(2, 4))
    found = annotated_cases(out)
    assert [entry["slices"] for entry in found.entries] == [[2, 4], [2, 4]]
    for entry in found.entries:
        assert np.asarray(nibabel.load(entry["label"]).dataobj).any()
    lists = write_lists(TrainOptions(str(out)), tmp_path / "run", {})
    assert (len(lists.training), len(lists.validation)) == (2, 2)  # two slices of a volume each
    for case in (*lists.training, *lists.validation):
        assert np.asarray(Image.open(case["label"]))[10, 8:21].all()


def test_what_is_none_is_told(tmp_path: Path, prompted: PromptModel) -> None:
    with pytest.raises(StudyError, match="contains no sessions of tpseg annotate"):
        annotated_cases(tmp_path)
    (tmp_path / "in").mkdir()
    write_png(make_phantom("skin_lesion", 1, 40).image, tmp_path / "in" / "a.png")
    draw(tmp_path / "in", prompted, tmp_path / "out", "skin_lesion", 0)
    (tmp_path / "out" / "sessions").mkdir(exist_ok=True)
    with pytest.raises(StudyError, match="save cases in the viewer first"):
        annotated_cases(tmp_path / "out")
