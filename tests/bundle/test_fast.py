"""Inference with the fast form of the network, and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.inferers import TaskInferer
from monai_tpseg.networks.fast.inference_network import InferenceNetwork
from tests.bundle.conftest import run


def test_the_fast_form_runs_by_default_and_finds_the_same(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[type] = []
    plain = TaskInferer.__call__

    def call(self: TaskInferer, inputs: Any, network: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(type(network))
        return plain(self, inputs, network, *args, **kwargs)

    monkeypatch.setattr(TaskInferer, "__call__", call)
    options = {"dataset_dir": str(phantoms / "demo" / "skin_lesion.png"), "checkpoint": str(trained / "model.pt")}
    found = {}
    for name, more in {"fast": {}, "plain": {"fast": "false"}, "half": {"amp": "bf16"}}.items():
        run(bundle_dir, "inference", task="skin_lesion", output_dir=name, save_probabilities=True, **options, **more)
        file = tmp_path / name / "skin_lesion_skin_lesion_prob.png"
        found[name] = np.asarray(Image.open(file)).astype(float) / 65535
    assert [kind is InferenceNetwork for kind in seen] == [True, False, True]
    np.testing.assert_allclose(found["fast"], found["plain"], atol=1e-4)
    assert 0 < np.abs(found["half"] - found["fast"]).mean() < 0.02


@pytest.mark.parametrize("name", ["skin_lesion.png", "brain_tumor.nii.gz"])
def test_several_tasks_get_what_runs_for_each_alone_write(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, name: str
) -> None:
    asked = ["thyroid_nodule", "wet_amd", "breast_lesion"]
    options = {"dataset_dir": str(phantoms / "demo" / name), "checkpoint": str(trained / "model.pt")}
    options["save_probabilities"] = "true"
    run(bundle_dir, "inference", task=[asked[0], asked[2], asked[1]], output_dir="all", **options)
    for task in asked:
        run(bundle_dir, "inference", task=task, output_dir="each", **options)
    found, alone = ({p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()} for folder in ("all", "each"))
    assert found == alone
    assert len(found) == 3 * 5


def test_a_task_that_does_not_exist_is_named_among_several(
    bundle_dir: Path, phantoms: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"dataset_dir": str(phantoms / "demo" / "skin_lesion.png"), "checkpoint": str(trained / "model.pt")}
    with pytest.raises(SystemExit):
        run(bundle_dir, "inference", task=["wet_amd", "liver"], **options)
