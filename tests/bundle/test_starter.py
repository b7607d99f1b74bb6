"""Without `--checkpoint` both bundles take what lies in their `models`, then the starter weights, and say which."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from monai_tpseg.bundle.config import bundle_weights
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import kprism_demo
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.testing.phantoms import make_phantom, write_png
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.weights import lookup
from monai_tpseg.weights.pack import pack
from tests.bundle.conftest import SOURCE, read_only_copy, run
from tests.studies.conftest import write_weights
from tests.weights.conftest import CARD


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the site with starter weights of both networks, random ones."""
    folder = tmp_path_factory.mktemp("site")
    pack(write_weights(folder / "trained" / "model.pt"), folder, "starter-tpseg", CARD)
    network = {"architecture": "kprism", "backbone": "utnet_demo"}
    info = WeightsInfo(TASK_NAMES, network, (32, 32), preprocessing=pipelines_hash())
    save_weights(folder / "trained" / "k.pt", kprism_demo(len(TASK_NAMES)).state_dict(), info)
    pack(folder / "trained" / "k.pt", folder, "starter-kprism", CARD)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    write_png(make_phantom("skin_lesion", 4, (36, 48)).image, tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.mark.parametrize(
    ("network", "bundle"), [("tpseg", "tpseg_lesion_segmentation"), ("kprism", "kprism_universal_segmentation")]
)
def test_inference_takes_the_starter_weights_and_says_so(
    network: str,
    bundle: str,
    site: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TPSEG_WEIGHTS", str(site))
    folder = read_only_copy(SOURCE.with_name(bundle), tmp_path)
    asked = {"dataset_dir": str(picture), "task": "skin_lesion"}
    given = {**asked, "output_dir": "out", "device": "cpu", "progress": False}
    run(folder, "inference", **given)
    said = capsys.readouterr().err
    assert f"weights: starter-{network}, research preview (research use, non-commercial)\n" in said
    record = json.loads((tmp_path / "out" / "p_skin_lesion_result.json").read_text())
    assert record["provenance"]["model"]["weights"] == f"starter-{network}, research preview"
    with pytest.raises(SystemExit, match=r"Unknown task 'liver_lesion'; choose one of wet_amd"):
        run(folder, "inference", **{**given, "task": "liver_lesion"})


def test_what_lies_in_models_counts_more(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPSEG_WEIGHTS", str(site))
    models = tmp_path / "models"
    models.mkdir()
    assert bundle_weights(str(tmp_path), "tpseg") == str(site / "starter-tpseg.safetensors")
    for name in ("model.safetensors", "model.pt"):
        shutil.copy(site / "starter-tpseg.safetensors", models / name)
        assert bundle_weights(str(tmp_path), "tpseg") == str(models / name)


def test_without_any_the_preflight_names_the_way_out(
    picture: Path, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setattr(lookup, "_package", lambda: tmp_path / "none")
    monkeypatch.setattr(lookup, "user_folder", lambda: tmp_path / "none")
    with pytest.raises(SystemExit, match=r"No weights file at '.*models/model\.pt'; .*--checkpoint"):
        run(bundle_dir, "inference", dataset_dir=str(picture), task="skin_lesion", output_dir="out", device="cpu")
    assert not (tmp_path / "out").exists()
