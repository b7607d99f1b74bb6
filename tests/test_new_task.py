"""The command `tpseg new-task`: what it writes, what takes it, and one line for everything that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli import main
from monai_tpseg.data.exemplar_files import find_exemplars
from monai_tpseg.engines.new_task import load_tpseg, read_exemplar_tensors
from monai_tpseg.networks import build_network
from monai_tpseg.networks.checkpoint import read_checkpoint
from monai_tpseg.networks.weights_info import WeightsInfo, read_info, save_weights
from monai_tpseg.studies import Model
from monai_tpseg.testing.phantoms import make_phantom, make_volume, write_nifti, write_png
from monai_tpseg.transforms import pipelines_hash

from .studies.conftest import write_weights

SMALL = {"backbone": "hiera_demo"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest network for all tasks, with hard gates."""
    path = write_weights(tmp_path_factory.mktemp("weights") / "model.pt")
    state = read_checkpoint(path) | {"encoder.gate.hard": torch.tensor(True)}
    save_weights(path, state, read_info(path))
    return path


@pytest.fixture(scope="module")
def exemplars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three pictures and their masks."""
    folder = tmp_path_factory.mktemp("exemplars")
    for n in range(3):
        write_exemplar(folder, f"p{n}", n)
    return folder


def write_exemplar(folder: Path, name: str, seed: int, images: str = "images", masks: str = "masks") -> None:
    phantom = make_phantom("skin_lesion", seed, 40)
    for part in (images, masks):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_png(phantom.image, folder / images / f"{name}.png")
    write_png(phantom.label, folder / masks / f"{name}_mask.png")


def command(exemplars: Path, weights: Path, out: Path, *more: str, name: str = "mole") -> list[str]:
    where = ["--exemplars", str(exemplars), "--checkpoint", str(weights), "--out", str(out)]
    return ["new-task", name, *where, *(more or ("--modality", "dermoscopy"))]


def test_the_new_weights_know_the_task_and_the_old_ones(
    exemplars: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "w2.pt"
    assert main(command(exemplars, weights, out)) == 0
    said, info = capsys.readouterr().out, read_info(out, verify=True)
    entry = info.training["new_tasks"][0]
    assert said.startswith(f"{out}: mole from 3 exemplars, with the rows of {entry['nearest']}.\n")
    assert all(f" {task} " in said.splitlines()[1] for task in TASK_NAMES)
    assert (info.tasks, info.modalities) == ((*TASK_NAMES, "mole"), {"mole": "dermoscopy"})
    assert (entry["exemplars"], entry["fine_tuning"], entry["from"]) == (3, None, read_info(weights).sha256)
    picture = exemplars / "images" / "p0.png"
    old, new = Model(weights, "cpu"), Model(out, "cpu")
    assert new.segment(picture, "mole").mask.shape == (1, 40, 40)
    for task in ("skin_lesion", "breast_lesion"):
        assert torch.equal(new.segment(picture, task).prob, old.segment(picture, task).prob)


def test_one_more_on_top_and_a_tuning(
    exemplars: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    assert main([*command(exemplars, weights, first), "--quiet"]) == 0
    tuned = ["--modality", "endoscopy", "--fine-tune", "3", "--lr", "0.01", "--seed", "4", "--quiet"]
    assert main(command(exemplars, first, second, *tuned, name="ulcer")) == 0
    assert capsys.readouterr() == ("", "")
    info = read_info(second)
    assert info.tasks[-2:] == ("mole", "ulcer")
    assert info.modalities == {"mole": "dermoscopy", "ulcer": "endoscopy"}
    assert [entry["name"] for entry in info.training["new_tasks"]] == ["mole", "ulcer"]
    assert info.training["new_tasks"][1]["fine_tuning"] == {"steps": 3, "lr": 0.01, "seed": 4}
    before, after = read_checkpoint(first), read_checkpoint(second)
    up = "encoder.adapters.5.task_up"
    assert torch.equal(after[up][:-1], before[up])
    assert not torch.equal(after[up][-1], before[up][-1])


def test_a_task_of_the_catalogue_needs_no_modality(exemplars: Path, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "seven.pt", tasks=TASK_NAMES[:7])
    assert main(command(exemplars, weights, tmp_path / "w2.pt", "--quiet", name="skin_lesion")) == 0
    assert (read_info(tmp_path / "w2.pt").tasks, read_info(tmp_path / "w2.pt").modalities) == (TASK_NAMES, {})


def test_the_same_seed_gives_the_same_bytes(exemplars: Path, weights: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a.pt", "b.pt"):
        more = ("--modality", "dermoscopy", "--fine-tune", "2", "--quiet")
        assert main(command(exemplars, weights, tmp_path / name, *more)) == 0
        digests.append(read_checkpoint(tmp_path / name))
    assert all(torch.equal(value, digests[1][name]) for name, value in digests[0].items())


@pytest.mark.parametrize("folders", [("images", "masks"), ("image", "label"), ("images", "labels"), (".", ".")])
def test_folders_as_people_have_them(folders: tuple[str, str], tmp_path: Path) -> None:
    write_exemplar(tmp_path, "a", 0, *folders)
    (found,) = find_exemplars(tmp_path, "mole")
    assert (Path(found["image"]).name, Path(found["label"]).name, found["task"]) == ("a.png", "a_mask.png", "mole")


def test_a_datalist_gives_the_entries_of_the_task(exemplars: Path, weights: Path) -> None:
    entry = {"image": "images/p0.png", "label": "masks/p0_mask.png", "task": "mole"}
    path = exemplars / "list.json"
    path.write_text(json.dumps({"training": [entry, {**entry, "task": "wet_amd"}], "validation": [entry]}))
    (case,) = find_exemplars(path, "mole")
    info = replace(read_info(weights), modalities={"mole": "dermoscopy"})
    image, label = read_exemplar_tensors([case], info)
    assert (image.shape, label.shape) == ((1, 3, 32, 32), (1, 1, 32, 32))
    assert set(label.unique().tolist()) == {0.0, 1.0}


def test_prepared_folders_serve_as_exemplars(exemplars: Path, tmp_path: Path) -> None:
    path = tmp_path / "mole.json"
    folders = ["--images", str(exemplars / "images"), "--masks", str(exemplars / "masks"), "--out", str(path)]
    options = ["--val-share", "0.4", "--workers", "0", "--quiet"]
    assert main(["prepare", "folders", "--task", "a mole", *folders, *options]) == 2
    assert main(["prepare", "folders", "--task", "mole", *folders, *options]) == 0
    lists = json.loads(path.read_text())
    assert len(find_exemplars(path, "mole")) == len(lists["training"]) == 3 - len(lists["validation"]) == 2


def _empty(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        write_png(np.zeros((40, 40), np.uint8), path)


def _full(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        write_png(np.full((40, 40), 255, np.uint8), path)


def _larger(folder: Path) -> None:
    write_png(np.full((20, 41), 255, np.uint8), folder / "masks" / "p0_mask.png")


def _alone(folder: Path) -> None:
    (folder / "masks" / "p0_mask.png").unlink()
    write_exemplar(folder, "p1", 1)


def _none(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def _volume(folder: Path) -> None:
    _none(folder)
    path = write_nifti(make_volume("lung_infection", 0, (32, 32, 6)), folder / "images" / "p0.nii.gz")
    del path
    (folder / "images" / "p0_label.nii.gz").rename(folder / "masks" / "p0.nii.gz")
    (folder / "masks" / "p0_mask.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_empty, "No mask of 1 exemplar holds a lesion"),
        (_full, "covers the whole picture"),
        (_larger, "sizes 20 x 41 and 40 x 40 differ"),
        (_alone, "'p0.png' has no partner"),
        (_none, "No pictures in"),
        (_volume, "'p0.nii.gz' is a volume"),
    ],
)
def test_exemplars_that_show_nothing_are_refused(
    spoil: Callable[[Path], None],
    message: str,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "exemplars"
    write_exemplar(folder, "p0", 0)
    spoil(folder)
    assert main(command(folder, weights, tmp_path / "w2.pt")) == 1
    _one_line(capsys, message)
    assert not (tmp_path / "w2.pt").exists()


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("wet_amd", ("--modality", "oct"), "already have a task 'wet_amd'"),
        ("wet_amd", (), "'wet_amd' of the catalogue is of modality 'oct', not "),
        ("../mole", (), "'../mole' is not a valid task name"),
        ("Mole", (), "'Mole' is not a valid task name"),
        ("3", (), "'3' is not a valid task name"),
        ("m" * 33, (), "is not a valid task name"),
        (
            "skin_lesions",
            (),
            "Unknown task 'skin_lesions'; did you mean skin_lesion? If it is a new task, add --new-task",
        ),
        ("mole", ("--modality", "xray"), "Unknown modality 'xray' of task 'mole'; choose one of oct, "),
        ("mole", ("--quiet",), "give its modality, one of oct, "),
        ("mole", ("--modality", "ct", "--fine-tune", "-1"), "must be 0 or more, got -1"),
        ("mole", ("--modality", "ct", "--lr", "0"), "above 0 and below 1, got 0.0"),
        ("mole", ("--modality", "ct", "--device", "quantum"), "Device 'quantum' is not available"),
    ],
)
def test_calls_that_make_no_sense_are_refused(
    name: str,
    more: tuple[str, ...],
    message: str,
    exemplars: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(exemplars, weights, tmp_path / "w2.pt", *more, name=name)) == (1 if "already" in message else 2)
    _one_line(capsys, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"architecture": "unet", "width": 4}, "holds a TaskAgnostic"),
        ({"architecture": "kprism", "backbone": "utnet_demo"}, "holds a KPrism"),
        ({**SMALL, "decoder": "unet"}, "holds an ablation without prototypes"),
        ({**SMALL, "without_pgtd": [1, 2, 3]}, "holds an ablation without prototypes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_networks_are_refused(
    network: dict[str, Any], message: str, exemplars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = WeightsInfo(("wet_amd",), network, (32, 32), preprocessing=pipelines_hash())
    state = build_network(num_tasks=1, image_size=32, **network).state_dict()
    save_weights(tmp_path / "model.pt", state, info)
    assert main(command(exemplars, tmp_path / "model.pt", tmp_path / "w2.pt")) == 1
    _one_line(capsys, message)
    if "without_pgtd" in network:
        with pytest.raises(ValueError, match="needs TP-Seg with prototypes"):
            load_tpseg(tmp_path / "model.pt")


def test_files_in_the_way_are_refused(
    exemplars: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("{}")
    for out, message in (("a.pt", "a.json' exists"), ("w2.json", "with the suffix .pt"), ("w2", "with the suffix .pt")):
        assert main(command(exemplars, weights, tmp_path / out)) == 1
        _one_line(capsys, message)
    patches = tmp_path / "patches.pt"
    save_weights(patches, read_checkpoint(weights), replace(read_info(weights), window="sliding"))
    assert main(command(exemplars, patches, tmp_path / "w2.pt")) == 1
    _one_line(capsys, "The weights work on patches")
    assert main(command(tmp_path / "absent", weights, tmp_path / "w2.pt")) == 1
    _one_line(capsys, "No exemplars at")
    if Path("/proc/self").exists():  # nobody makes files there
        assert main(command(exemplars, weights, Path("/proc/w2.pt"))) == 1
        _one_line(capsys, "'/proc/w2.pt' cannot be written")


def _one_line(capsys: pytest.CaptureFixture[str], message: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_name_that_may_be_a_typo_is_confirmed(
    exemplars: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first.pt"
    assert main(command(exemplars, weights, first, "--modality", "ct", name="liver_lesion")) == 0
    capsys.readouterr()
    words = command(exemplars, first, tmp_path / "second.pt", "--modality", "ct", name="liver_lesions")
    assert main(words) == 1
    _one_line(capsys, "did you mean liver_lesion?")
    assert not (tmp_path / "second.pt").exists()
    assert main([*words, "--new-task", "--quiet"]) == 0
    assert read_info(tmp_path / "second.pt").tasks[-2:] == ("liver_lesion", "liver_lesions")
