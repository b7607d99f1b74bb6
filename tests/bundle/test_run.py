"""Train, evaluate and infer with the bundle, from another folder, the bundle read-only."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.evaluation.details import DETAILS
from monai_tpseg.handlers import GradientClipping
from monai_tpseg.keys import IMAGE, TASK
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.checkpoint import load_weights, read_checkpoint
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.transforms import LoadMedicalImaged, NormalizeByModalityd
from tests.bundle.conftest import SMALL, history, run


def content(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def test_training_leaves_what_the_next_commands_need(trained: Path) -> None:
    names = {p.name for p in trained.iterdir()}
    assert {"model.pt", "model.json", "last.pt", "history.json", "curves.png", "gates.png", "tensorboard"} <= names
    info = read_info(trained / "model.pt", verify=True)
    assert info.tasks == TASK_NAMES
    assert info.network["backbone"] == "hiera_demo"
    assert info.image_size == (32, 32)
    assert len(history(trained)) == 2
    assert bool(read_checkpoint(trained / "model.pt")["encoder.gate.hard"])  # the best of those that end hard
    assert (trained / "overlays" / "epoch_002.png").is_file()


def test_gates_end_hard_and_cold_and_the_vote_at_full_strength(trained: Path) -> None:
    state = read_checkpoint(trained / "last.pt")["network"]
    assert bool(state["encoder.gate.hard"])
    torch.testing.assert_close(state["encoder.gate.temperature"], torch.tensor(0.3))
    assert float(state["decoder.pgtds.0.reinforcement"]) == 5.0


def test_evaluate_then_infer_with_the_weights_as_written(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path
) -> None:
    before = content(bundle_dir)
    weights = str(trained / "model.pt")
    run(bundle_dir, "evaluate", dataset_dir=str(phantoms), checkpoint=weights, output_dir="out/eval", num_workers=0)
    metrics = json.loads((tmp_path / "out/eval/metrics.json").read_text())
    assert set(metrics) == {*TASK_NAMES, "mean"}
    assert metrics["mean"]["dice"] == pytest.approx(read_info(weights).training["dice/mean"], abs=1e-6)
    assert metrics["mean"].keys() >= {*DETAILS}
    assert 0 <= metrics["brain_tumor"]["ece"] <= 1
    with (tmp_path / "out/eval/metrics_per_image.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 16
    assert {row["distance_unit"] for row in rows} <= {"mm", "px"}

    run(
        bundle_dir,
        "inference",
        dataset_dir=str(phantoms / "demo"),
        task="brain_tumor",
        checkpoint=weights,
        output_dir="out/results",
        save_probabilities=True,
    )
    results = tmp_path / "out/results"
    source = nib.load(phantoms / "demo" / "brain_tumor.nii.gz")
    mask = nib.load(results / "brain_tumor_brain_tumor_mask.nii.gz")
    assert mask.shape == source.shape
    np.testing.assert_array_equal(mask.affine, source.affine)
    picture = Image.open(phantoms / "demo" / "skin_lesion.png")
    found = Image.open(results / "skin_lesion_brain_tumor_mask.png")
    assert found.size == picture.size
    assert set(np.unique(np.asarray(found))) <= {0, 255}
    assert (results / "lung_infection_series_brain_tumor_mask.nii.gz").is_file()
    assert (results / "lung_infection_series_brain_tumor_overlay.png").is_file()
    assert content(bundle_dir) == before


def network(trained: Path) -> torch.nn.Module:
    net = tpseg_hiera("hiera_demo", 8).eval()
    load_weights(net, trained / "model.pt")
    return net


@torch.no_grad()
@pytest.mark.parametrize("name", ["skin_lesion.png", "brain_tumor.nii.gz"])
def test_two_tasks_on_one_image_equal_the_network_itself(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, name: str
) -> None:
    source = phantoms / "demo" / name
    results: dict[str, np.ndarray[Any, Any]] = {}
    for task in ("skin_lesion", "brain_tumor"):
        run(
            bundle_dir,
            "inference",
            dataset_dir=str(source),
            task=task,
            checkpoint=str(trained / "model.pt"),
            output_dir=task,
            save_probabilities=True,
        )
        case = NormalizeByModalityd()(LoadMedicalImaged("image")({IMAGE: str(source), TASK: task}))
        image = case[IMAGE].as_tensor()
        slices = image[None] if image.ndim == 3 else image.permute(3, 0, 1, 2)
        resized = torch.nn.functional.interpolate(slices, size=(32, 32), mode="bilinear", antialias=True)
        logits = torch.cat([network(trained)(x[None], TASK_NAMES.index(task)) for x in resized])
        size = slices.shape[-2:]
        expected = torch.nn.functional.interpolate(logits.sigmoid(), size=size, mode="bilinear", antialias=True)[:, 0]
        stem = name.split(".")[0]
        if name.endswith(".png"):
            results[task] = np.asarray(Image.open(tmp_path / task / f"{stem}_{task}_prob.png")) / 65535
            np.testing.assert_allclose(results[task], expected[0], atol=2e-5)
        else:
            # the file's axes are (x, y, z) of the source: sorted values are the same whatever the axes
            results[task] = np.asarray(nib.load(tmp_path / task / f"{stem}_{task}_prob.nii.gz").dataobj)
            np.testing.assert_allclose(np.sort(results[task].ravel()), np.sort(expected.numpy().ravel()), atol=1e-5)
    first, second = results.values()
    assert np.abs(first - second).max() > 1e-3


def test_resumed_training_equals_an_uninterrupted_one(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop in the third of three epochs, resume: same losses, same weights."""
    common = {**SMALL, "max_epochs": 3, "dataset_dir": str(phantoms), "max_norm": 1e9, "num_workers": 2}
    run(bundle_dir, "train", output_dir="whole", **common)

    def stop(self: GradientClipping, engine: Any) -> None:
        if engine.state.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(GradientClipping, "__call__", stop)  # in the middle of the third epoch
    with pytest.raises(KeyboardInterrupt):
        run(bundle_dir, "train", output_dir="parts", **common)
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert len(history(tmp_path / "parts")) == 2
    run(bundle_dir, "train", output_dir="parts", resume=True, **common)
    whole, parts = history(tmp_path / "whole"), history(tmp_path / "parts")
    assert whole == parts
    first, second = (read_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert all(torch.equal(v, second["network"][k]) for k, v in first["network"].items())


def test_start_from_sam2_weights_with_the_trunk_frozen(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    trunk = {k: v + 0.01 for k, v in tpseg_hiera("hiera_demo", 1).encoder.trunk.state_dict().items()}
    torch.save({"model": {f"image_encoder.trunk.{k}": v for k, v in trunk.items()}}, tmp_path / "sam2.pt")
    small = {**SMALL, "recipe": "paper", "max_epochs": 1}
    run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", encoder_checkpoint="sam2.pt", **small)
    state = read_checkpoint(tmp_path / "out" / "model.pt")
    assert all(torch.equal(v, state[f"encoder.trunk.{k}"]) for k, v in trunk.items())


def test_patches_at_the_pictures_own_scale_with_bf16(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    options = {**SMALL, "max_epochs": 1, "window": "sliding", "amp": "bf16", "dataset_dir": str(phantoms)}
    run(bundle_dir, "train", output_dir="patches", **options)
    assert read_info(tmp_path / "patches" / "model.pt").window == "sliding"
    assert np.isfinite(history(tmp_path / "patches")[0]["loss"])
    picture = phantoms / "demo" / "skin_lesion.png"
    options = {"dataset_dir": str(picture), "task": "skin_lesion", "checkpoint": "patches/model.pt", "device": "cpu"}
    run(bundle_dir, "inference", output_dir="out", overlap=0.5, tta_flips="true", **options)
    found = Image.open(tmp_path / "out" / "skin_lesion_skin_lesion_mask.png")
    assert found.size == Image.open(picture).size
    with pytest.raises(SystemExit, match="--window sliding"):
        run(bundle_dir, "inference", output_dir="out2", window="none", **options)


def test_a_datalist_with_labels_can_be_segmented(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path
) -> None:
    run(
        bundle_dir,
        "inference",
        datalist=str(phantoms / "datalist.json"),
        checkpoint=str(trained / "model.pt"),
        output_dir="out",
        save_probabilities="false",  # as the command line gives it
    )
    entries = json.loads((phantoms / "datalist.json").read_text())["validation"]
    names = {p.name for p in (tmp_path / "out").rglob("*.png")}
    assert len([n for n in names if n.endswith("_mask.png")]) == len(entries)
    assert not [n for n in names if n.endswith("_prob.png")]


@pytest.mark.slow
def test_two_processes_train_and_evaluate(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    def torchrun(configs: list[str], *options: str) -> None:
        files = str([str(bundle_dir / "configs" / f"{name}.json") for name in configs])
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29531"]
        command += ["-m", "monai.bundle", "run", "--config_file", files, "--dataset_dir", str(phantoms), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    small = [f for k, v in SMALL.items() for f in (f"--{k}", str(v))]
    torchrun(["train", "multi_gpu_train"], "--output_dir", "ddp", *small)
    assert len(history(tmp_path / "ddp")) == 2
    weights = str(tmp_path / "ddp" / "model.pt")
    evaluate = ["--output_dir", "ddp_eval", "--checkpoint", weights, "--num_workers", "0", "--progress", "False"]
    torchrun(["evaluate", "multi_gpu_evaluate"], *evaluate)
    run(
        bundle_dir,
        "evaluate",
        dataset_dir=str(phantoms),
        checkpoint=weights,
        output_dir="one",
        num_workers=0,
        device="cpu",
    )
    two, one = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("ddp_eval", "one"))
    assert two["mean"]["dice"] == pytest.approx(one["mean"]["dice"], abs=1e-6)
    assert [two[t]["n"] for t in TASK_NAMES] == [one[t]["n"] for t in TASK_NAMES]
