"""`tpseg train`: the bundle's training from weights of one's own choice, resumed exactly, with rows by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.cli import main
from monai_tpseg.handlers.checkpoints import RunCheckpoint
from monai_tpseg.networks.checkpoint import content_sha256, read_checkpoint
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_nifti, write_png
from monai_tpseg.training import TrainingError, TrainOptions, train
from monai_tpseg.training.lists import write_lists
from monai_tpseg.training.train_options import recorded_request
from tests.bundle.conftest import SOURCE, run
from tests.studies.conftest import write_weights

FEW = {"epochs": 2, "batch_size": 4, "device": "cpu"}


def write_pairs(folder: Path, task: str, number: int = 6) -> Path:
    """Pictures and masks as people have them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for n in range(number):
        phantom = make_phantom(task, n, 40)
        write_png(phantom.image, folder / "images" / f"p{n}.png")
        Image.fromarray(phantom.label.astype(np.uint8) * 255).save(folder / "masks" / f"p{n}_mask.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest network for two tasks, with a licence."""
    path = write_weights(tmp_path_factory.mktemp("weights") / "model.pt", tasks=("wet_amd", "skin_lesion"))
    description = path.with_suffix(".json")
    content = json.loads(description.read_text())
    content["card"] = {"name": "ours", "licence": "teaching"}
    description.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "moles", "skin_lesion")


@pytest.fixture(scope="module")
def trained(pairs: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training from start to end."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(TrainOptions(str(pairs), "skin_lesion", checkpoint=str(weights), **FEW), out)
    return out


def test_the_figures_are_those_of_the_bundle_and_the_command_is_told(
    trained: Path, pairs: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "--data",
        str(pairs),
        "--task",
        "skin_lesion",
        "--out",
        str(trained),
        "--checkpoint",
        str(weights),
    ]
    assert main([*words, "--epochs", "2", "--batch-size", "4", "--device", "cpu", "--resume"]) == 0
    out = capsys.readouterr().out
    for name, file in (("before", "start.pt"), ("after", "model.pt")):
        given = {"dataset_dir": str(trained), "checkpoint": str(trained / file), "output_dir": str(tmp_path / name)}
        run(SOURCE, "evaluate", **given, device="cpu", num_workers=0, progress=False)
    dice = [json.loads((tmp_path / name / "metrics.json").read_text())["mean"]["dice"] for name in ("before", "after")]
    assert f"  mean                 {100 * dice[0]:7.1f} {100 * dice[1]:7.1f}\n" in out
    assert "Not in your data: wet_amd." in out
    assert "Licence of the initial weights, which also applies to these: teaching\n" in out
    assert f"tpseg run FILE --task skin_lesion --checkpoint {trained / 'model.pt'}\n" in out


def test_lists_are_apart_and_complete(trained: Path) -> None:
    lists = json.loads((trained / "datalist.json").read_text())
    images = [[entry["image"] for entry in lists[name]] for name in ("training", "validation")]
    assert (len(images[0]), len(images[1])) == (5, 1)
    assert len({*images[0], *images[1]}) == 6
    assert all((trained / image).is_file() for image in images[0] + images[1])


def test_a_stopped_training_goes_on_to_the_same_weights(
    trained: Path, pairs: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = TrainOptions(str(pairs), "skin_lesion", checkpoint=str(weights), **FEW), tmp_path / "run"
    save = RunCheckpoint.save

    def stop(self: RunCheckpoint, engine: Any) -> None:
        save(self, engine)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunCheckpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(asked, out)
    monkeypatch.setattr(RunCheckpoint, "save", save)
    with pytest.raises(TrainingError, match="add --resume"):
        train(asked, out)
    train(asked, out, resume=True)
    assert content_sha256(read_checkpoint(out / "model.pt")) == content_sha256(read_checkpoint(trained / "model.pt"))


def test_a_record_of_an_older_version_is_compared_with_the_defaults(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with recorded_request(TrainOptions(str(pairs), "skin_lesion"), out, resume=False):
        record = json.loads((out / "asked.json").read_text())
    del record["encoder"]
    (out / "asked.json").write_text(json.dumps(record))
    with recorded_request(TrainOptions(str(pairs), "skin_lesion"), out, resume=True):
        pass
    other = TrainOptions(str(pairs), "skin_lesion", encoder="e.pt")
    with pytest.raises(TrainingError, match=r"encoder was '', now 'e\.pt'"), recorded_request(other, out, resume=True):
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": "starter-kprism"}, "holds K-Prism; tpseg train needs TP-Seg weights"),
        ({"options": {"stem": "patch"}}, "holds weights of stem 'conv', not 'patch'; leave that option out"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    changes: dict[str, Any], words: str, pairs: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=words):
        train(TrainOptions(str(pairs), "skin_lesion", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("there", [False, True])
def test_data_that_cannot_be_used_leave_the_folder_as_it_was(there: bool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    if there:
        out.mkdir()
    with pytest.raises(TrainingError, match="No data at"):
        train(TrainOptions(str(tmp_path / "nothing"), "skin_lesion"), out)
    assert out.is_dir() == there
    assert not there or not any(out.iterdir())


def test_rows_are_kept_by_name_and_a_new_task_gets_one(
    weights: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    liver = write_pairs(tmp_path / "liver", "lung_infection", 4)
    entries = [
        {"image": str(folder / "images" / f"p{n}.png"), "label": str(folder / "masks" / f"p{n}_mask.png"), "task": task}
        for folder, task in ((liver, "liver_lesion"), (pairs, "skin_lesion"))
        for n in range(4)
    ]
    datalist, out = tmp_path / "list.json", tmp_path / "run"
    datalist.write_text(json.dumps({"training": entries}))
    words = [
        "train",
        "--data",
        str(datalist),
        "--out",
        str(out),
        "--checkpoint",
        str(weights),
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    assert main([*words, "--quiet"]) == 1
    assert "Task 'liver_lesion' is new: give its modality, e.g. --modality liver_lesion=ct." in (
        capsys.readouterr().err
    )
    assert not out.exists()
    assert main([*words, "--modality", "liver_lesion=ct", "--quiet"]) == 0
    old, start = read_checkpoint(weights), read_checkpoint(out / "start.pt")
    info = read_info(out / "model.pt", verify=True)
    assert info.tasks == ("wet_amd", "skin_lesion", "liver_lesion")
    assert info.modalities == {"liver_lesion": "ct"}
    assert info.training["derived_from"]["name"] == "ours"
    grown = [name for name in old if old[name].shape != start[name].shape]
    assert grown
    for name, value in old.items():
        kept = start[name][:2] if name in grown else start[name]
        assert torch.equal(kept, value), name
    picture = liver / "images" / "p0.png"
    answer = ["run", str(picture), "--task", "liver_lesion", "--checkpoint", str(out / "model.pt"), "--device", "cpu"]
    assert main([*answer, "--out", str(tmp_path / "mask.png"), "--quiet"]) == 0


def test_from_scratch_knows_the_tasks_of_the_data_alone(pairs: Path, tmp_path: Path) -> None:
    asked = TrainOptions(
        str(pairs), "skin_lesion", from_scratch=True, image_size=32, epochs=1, batch_size=4, device="cpu"
    )
    trained = train(asked, tmp_path / "run")
    info = read_info(trained.weights, verify=True)
    assert (info.tasks, info.image_size) == (("skin_lesion",), (32, 32))
    assert info.network["backbone"] == "hiera_mini"
    assert (trained.before, trained.untrained, list(trained.after)) == ({}, (), ["skin_lesion", "mean"])


def test_volumes_become_the_slices_that_show_lesion_and_some_others(tmp_path: Path) -> None:
    volumes = [make_volume("lung_infection", seed, (40, 40, 8)) for seed in range(2)]
    entries = []
    for n, volume in enumerate(volumes):
        write_nifti(volume, tmp_path / f"v{n}.nii.gz")
        entries.append({"image": f"v{n}.nii.gz", "label": f"v{n}_label.nii.gz", "task": "lung_infection"})
    (tmp_path / "datalist.json").write_text(json.dumps({"training": entries[:1], "validation": entries[1:]}))
    out = tmp_path / "run"
    lists = write_lists(TrainOptions(str(tmp_path)), out, {})
    masks = [np.asarray(Image.open(case["label"])) for case in lists.training]
    with_lesion = int(volumes[0].label.any((0, 1)).sum())
    assert len(masks) == with_lesion + min(8 - with_lesion, with_lesion // 2)
    assert sorted(int((mask > 0).sum()) for mask in masks if mask.any()) == sorted(
        int(area) for area in volumes[0].label.sum((0, 1)) if area
    )
    assert lists.validation[0]["image"].endswith("v1.nii.gz")
    assert len({case["patient"] for case in lists.training}) == 1
    assert np.asarray(Image.open(lists.training[0]["image"])).dtype.itemsize >= 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": "nothing"}, "No data at 'nothing'"),
        ({"data": "."}, "give the task of its pictures with --task"),
        ({"data": "one.json"}, "so none can be held out"),
        ({"data": "one.json", "task": "skin_lesion"}, "omit --task"),
        ({"data": "one.json", "tasks": ("wet_amd",)}, "no entry of wet_amd under 'training'"),
        (
            {"data": ".", "task": "skin_lesion", "options": {"lrr": 1}},
            "Unknown option 'lrr' of --set: did you mean lr?",
        ),
        ({"data": ".", "task": "skin_lesion", "device": "quantum"}, "Device 'quantum' is not available"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    given: dict[str, Any], message: str, weights: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"image": "images/p0.png", "label": "masks/p0_mask.png", "task": "skin_lesion"}
    folder = shutil.copytree(pairs, tmp_path / "moles")
    (folder / "one.json").write_text(json.dumps({"training": [entry]}))
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=r"\A.*") as error:
        train(TrainOptions(checkpoint=str(weights), **given), tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_out_of_their_range_and_other_options_are_refused(trained: Path, pairs: Path, weights: Path) -> None:
    for name, value in (("minutes", 0), ("epochs", -1), ("batch_size", 0), ("image_size", 100), ("val_share", 1)):
        with pytest.raises(TrainingError, match=f"--{name.replace('_', '-')} must be"):
            TrainOptions(str(pairs), **{name: value})  # type: ignore[arg-type]
    other = TrainOptions(str(pairs), "skin_lesion", checkpoint=str(weights), epochs=3, batch_size=4, device="cpu")
    with pytest.raises(TrainingError, match="epochs was 2, now 3"):
        train(other, trained, resume=True)
