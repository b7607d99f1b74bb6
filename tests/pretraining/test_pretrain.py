"""`tpseg pretrain`: pictures of any source without labels, a run that resumes exactly, a trunk that trainings take."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.cli import main
from monai_tpseg.handlers.checkpoints import RunCheckpoint
from monai_tpseg.networks.checkpoint import read_checkpoint
from monai_tpseg.networks.encoder_file import read_encoder_info
from monai_tpseg.pretraining import PretrainOptions, pretrain
from monai_tpseg.pretraining.picture_lists import list_pictures
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_nifti, write_png
from monai_tpseg.training import TrainingError
from tests.training.test_train import write_pairs

FEW: dict[str, Any] = {"backbone": "hiera_demo", "image_size": 64, "batch_size": 4, "device": "cpu"}


def write_pictures(folder: Path, task: str = "skin_lesion", number: int = 8) -> Path:
    folder.mkdir(parents=True)
    for n in range(number):
        write_png(make_phantom(task, n, 64).image, folder / f"p{n}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data") / "archive")


@pytest.fixture(scope="module")
def asked(pictures: Path) -> PretrainOptions:
    return PretrainOptions((str(pictures),), "dermoscopy", epochs=12, **FEW)


@pytest.fixture(scope="module")
def out(asked: PretrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining from start to end."""
    folder = tmp_path_factory.mktemp("runs") / "eyes"
    pretrain(asked, folder)
    return folder


def test_it_learns_and_leaves_what_is_looked_at(out: Path) -> None:
    losses = [entry["loss"] for entry in json.loads((out / "history.json").read_text())]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    with Image.open(out / "reconstruction.png") as picture:
        shown = np.asarray(picture.convert("RGB"))
    assert shown.std() > 20
    info = read_encoder_info(out / "encoder.pt")
    assert (info.backbone, info.stem, info.image_size) == ("hiera_demo", "conv", (64, 64))
    assert (info.training["pictures"], info.training["epoch"], info.training["steps"]) == (8, 12, 24)


def test_a_stopped_run_goes_on_to_the_same_trunk(
    out: Path, asked: PretrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, folder = RunCheckpoint.save, tmp_path / "eyes"

    def stop(self: RunCheckpoint, engine: Any) -> None:
        save(self, engine)
        if engine.state.epoch == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunCheckpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(asked, folder)
    monkeypatch.setattr(RunCheckpoint, "save", save)
    with pytest.raises(TrainingError, match="add --resume"):
        pretrain(asked, folder)
    pretrain(asked, folder, resume=True)
    trunks = [read_checkpoint(one / "encoder.pt")["model"] for one in (out, folder)]
    assert all(torch.equal(trunks[0][name], trunks[1][name]) for name in trunks[0])
    told = [[entry["loss"] for entry in json.loads((one / "history.json").read_text())] for one in (out, folder)]
    assert told[0] == told[1]


def test_a_training_takes_the_trunk(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, run = write_pairs(tmp_path / "moles", "skin_lesion", 6), tmp_path / "run"
    words = [
        "train",
        "--data",
        str(pairs),
        "--task",
        "skin_lesion",
        "--out",
        str(run),
        "--encoder",
        str(out / "encoder.pt"),
    ]
    words += ["--epochs", "1", "--batch-size", "4", "--image-size", "64", "--device", "cpu"]
    assert main([*words, "--set", "freeze_encoder=true"]) == 0
    assert f"--checkpoint {run / 'model.pt'}\n" in capsys.readouterr().out
    own = read_checkpoint(out / "encoder.pt")["model"]
    trained = read_checkpoint(run / "model.pt")
    names = [name for name in trained if name.startswith("encoder.trunk.")]
    assert len(names) == len(own)  # frozen: it is as it was
    assert all(
        torch.equal(trained[name], own[name.replace("encoder.trunk.", "image_encoder.trunk.")]) for name in names
    )
    assert json.loads((run / "plan.json").read_text())["options"]["layer_decay"] == 0.75


def test_a_run_that_is_done_is_not_done_again(
    out: Path, asked: PretrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("monai_tpseg.pretraining.pretraining_run.make_dataset")
    again = pretrain(asked, out, resume=True)
    history = json.loads((out / "history.json").read_text())
    assert (again.first, again.last) == (history[0]["loss"], history[-1]["loss"])


def test_a_run_that_diverges_ends_with_one_line(
    asked: PretrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "monai_tpseg.engines.masked_pretraining.MaskedPixelLoss.forward",
        lambda self, output, image: output.pixels.sum() * torch.nan,
    )
    with pytest.raises(TrainingError, match=r"the loss is nan\. Its batch is in .*bad_batch\.pt"):
        pretrain(asked, tmp_path / "eyes")


def test_sources_of_all_kinds_give_pictures_of_their_modality(pictures: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("seen", "judged"):
        write_png(make_phantom("colon_polyp", 1, 64).image, lists / f"{name}.png")
    volume = make_volume("lung_infection", 0, (40, 48, 6))
    write_nifti(volume, lists / "scan.nii.gz")
    entries = {
        "training": [{"image": "seen.png", "task": "colon_polyp"}, {"image": "scan.nii.gz", "task": "lung_infection"}],
        "validation": [{"image": "judged.png", "task": "colon_polyp"}],
    }
    (lists / "datalist.json").write_text(json.dumps(entries))
    asked = PretrainOptions((str(lists), str(pictures)), "dermoscopy", slices=3, **FEW)
    out = tmp_path / "out"
    out.mkdir()
    cases = list_pictures(asked, out)
    assert Counter(case["task"] for case in cases) == {"dermoscopy": 8, "endoscopy": 1, "ct": 3}
    assert not any("judged" in case["image"] for case in cases)  # what a network is judged by stays unseen
    assert all(Path(case["image"]).is_file() for case in cases)
    assert list_pictures(asked, out) == cases  # a resumed run reads its own list


def test_errors_are_one_line(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    single = str(pictures / "p0.png")
    damaged = write_pictures(tmp_path / "damaged", number=2)
    (damaged / "p2.png").write_bytes((damaged / "p1.png").read_bytes()[:400])
    for words, status, message in (
        ([str(tmp_path / "none")], 1, "No data at"),
        ([str(pictures)], 1, "does not state its modality; give --modality, one of oct, mri,"),
        ([single, "--modality", "ct"], 1, "Fewer than two readable pictures"),
        ([single, "--modality", "x-ray"], 2, "Unknown --modality 'x-ray'; choose one of oct,"),
        ([single, "--image-size", "100"], 2, "--image-size must be a multiple of 32 from 64 on, got 100."),
        ([single, "--mask-ratio", "1"], 2, "--mask-ratio must be above 0 and below 1, got 1."),
        ([single, "--backbone", "resnet"], 2, "Unknown --backbone 'resnet'; choose one of hiera_tiny"),
        ([str(damaged), "--modality", "dermoscopy", "--image-size", "64", "--epochs", "1"], 1, "p2.png"),
    ):
        assert main(["pretrain", "--data", *words, "--out", out, "--device", "cpu"]) == status
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("Error: ")
        assert message in said
        for left in sorted(Path(out).rglob("*"), reverse=True):
            left.unlink()
