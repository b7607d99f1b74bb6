"""Whatever is wrong with a command: one clear line that names it, a non-zero status, nothing written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow, create_workflow

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks.checkpoint import CheckpointError
from tests.bundle.conftest import SMALL, run


def refused(bundle: Path, config: str, output: Path, **overrides: Any) -> str:
    """Run a config that must be refused; return its one line."""
    with pytest.raises(SystemExit) as error:
        run(bundle, config, output_dir=str(output), **overrides)
    assert isinstance(error.value.code, str)
    assert error.value.code.startswith("Error: ")
    assert "\n" not in error.value.code
    assert not output.exists()
    return error.value.code


def inference(bundle: Path, phantoms: Path, trained: Path, tmp_path: Path, **changes: Any) -> str:
    values = {
        "dataset_dir": str(phantoms / "demo" / "skin_lesion.png"),
        "task": "skin_lesion",
        "checkpoint": str(trained / "model.pt"),
        **changes,
    }
    return refused(bundle, "inference", tmp_path / "out", **values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": None}, ["no default task", "wet_amd", "skin_lesion"]),
        ({"task": "lung"}, ["Unknown task 'lung'", "wet_amd", "skin_lesion"]),
        ({"task": 8}, ["Unknown task 8", "0 to 7"]),
        ({"checkpoint": "nowhere/model.pt"}, ["nowhere/model.pt", "--checkpoint"]),
        ({"backbone": "hiera_tiny"}, ["backbone", "'hiera_demo'", "'hiera_tiny'"]),
        ({"tasks": ["skin_lesion"]}, ["was trained for wet_amd", "got tasks skin_lesion"]),
        ({"window": "sliding"}, ["window 'sliding'", "--window none"]),
        ({"image_size": 64}, ["64 x 64", "32 x 32"]),
        ({"save_probabilities": "perhaps"}, ["save_probabilities 'perhaps'", "true, false"]),
        ({"threshold": 50}, ["threshold must lie between 0 and 1, got 50"]),
        ({"threshold": "high"}, ["threshold must lie between 0 and 1, got 'high'"]),
        ({"threshold": "$25 * 2"}, ["threshold must lie between 0 and 1, got 50"]),
        ({"seg": "$str('maybe')"}, ["Unknown seg 'maybe'", "true, false"]),
        ({"min_lesion_area": 2.5}, ["min_lesion_area must be 0 or more pixels, got 2.5"]),
        ({"amp": "int8"}, ["Unknown amp 'int8'", "bf16"]),
        ({"amp": "fp16", "device": "cpu"}, ["'fp16' needs a GPU"]),
        ({"device": "cuda:7"}, ["cuda:7", "not available"]),
        ({"dataset_dir": ""}, ["--dataset_dir"]),
        ({"dataset_dir": "nowhere"}, ["nowhere", "E_NOT_FOUND"]),
        ({"read_timeout": 0}, ["read_timeout", "more than 0 seconds", "0"]),
        ({"read_timeout": "long"}, ["read_timeout", "'long'"]),
        ({"roi_size": 7}, ["roi_size must be one or two multiples of 32, got 7"]),
        ({"sw_batch_size": 0}, ["sw_batch_size must be a whole number of at least 1, got 0"]),
        ({"overlap": 1}, ["overlap must be a number from 0 to below 1, got 1"]),
        ({"device": "gpu"}, ["device must be cpu, cuda, cuda:1, ..., got 'gpu'"]),
        ({"checkpoint": 5}, ["checkpoint must be a path, got 5"]),
        ({"task": 5.5}, ["task must be a name, a row or a list of them, got 5.5"]),
        ({"network_def::backbone": "hiera_tyni"}, ["Unknown backbone 'hiera_tyni'; did you mean hiera_tiny?"]),
        ({"inferer": {}}, ["inferer must be a component such as {'_target_': 'monai_tpseg.inferers.TaskInferer'"]),
    ],
)
def test_inference(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    line = inference(bundle_dir, phantoms, trained, tmp_path, **changes)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_damaged_weights(bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, damage: str) -> None:
    shutil.copyfile(trained / "model.json", tmp_path / "model.json")
    data = (trained / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(data[: len(data) // 2] if damage == "truncated" else b"no weights")
    line = inference(bundle_dir, phantoms, trained, tmp_path, checkpoint=str(tmp_path / "model.pt"))
    assert "SHA-256 differs" in line


def test_weights_without_description(bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copyfile(trained / "model.pt", tmp_path / "model.pt")
    line = inference(
        bundle_dir, phantoms, trained, tmp_path, checkpoint=str(tmp_path / "model.pt"), backbone="hiera_demo"
    )
    assert "'model.json' beside it" in line


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken", b"hello"])
def test_unreadable_picture(bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copyfile(phantoms / "demo" / "skin_lesion.png", folder / "a.png")
    (folder / "b.png").write_bytes(content)
    line = inference(bundle_dir, phantoms, trained, tmp_path, dataset_dir=str(folder))
    assert "b.png" in line
    assert "E_" in line


def changed_list(phantoms: Path, folder: Path, **changes: Any) -> str:
    content = json.loads((phantoms / "datalist.json").read_text())
    content["training"][3] = {k: v for k, v in {**content["training"][3], **changes}.items() if v is not None}
    (folder / "list.json").write_text(json.dumps(content))
    return str(folder / "list.json")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"label": None}, ["training[3]", "no 'label'"]),
        ({"label": "labels/none.png"}, ["training[3]", "labels/none.png"]),
        ({"task": "lung"}, ["training[3]", "Unknown task 'lung'"]),
    ],
)
def test_training_list(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, entry: dict[str, Any], words: list[str]
) -> None:
    datalist = changed_list(phantoms, tmp_path, **entry)
    line = refused(bundle_dir, "train", tmp_path / "out", dataset_dir=str(phantoms), datalist=datalist, **SMALL)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": "paper", "freeze_encoder": "true"}, ["freeze_encoder=true needs weights"]),
        ({"recipe": "paper"}, ["freeze_encoder=true needs weights", "--encoder_checkpoint", "--freeze_encoder false"]),
        ({"augmentation": "stong"}, ["Unknown augmentation 'stong'", "flips, strong"]),
        ({"lr_schedule": "linear"}, ["Unknown lr_schedule 'linear'", "constant, cosine"]),
        ({"routes": "none"}, ["Unknown routes 'none'", "both"]),
        ({"recipe": "mine"}, ["Unknown recipe 'mine'", "paper, from_scratch"]),
        ({"backbone": "hiera_huge"}, ["Unknown backbone 'hiera_huge'", "hiera_tiny"]),
        ({"image_size": 100}, ["multiples of 32, got 100"]),
        ({"adapter": "$'lora' + 's'"}, ["Unknown adapter 'loras'; did you mean lora?"]),
        ({"batch_size": 0}, ["batch_size", "got 0"]),
        ({"batch_size": "$8 - 8"}, ["batch_size must be a whole number of at least 1, got 0"]),
        ({"batch_size": "zero"}, ["batch_size must be a whole number of at least 1, got 'zero'"]),
        ({"val_interval": 0}, ["val_interval must be a whole number of at least 1, got 0"]),
        ({"num_workers": -1}, ["num_workers must be a whole number of at least 0, got -1"]),
        ({"lr": "fast"}, ["lr must be a number above 0, got 'fast'"]),
        ({"weight_decay": [1]}, ["weight_decay must be a number of at least 0, got [1]"]),
        ({"gate_temperature": 1}, ["gate_temperature must be two numbers above 0", "got 1"]),
        ({"tasks": "mole"}, ["tasks must be a list of names", "got 'mole'"]),
        ({"resume": True}, ["Nothing to resume"]),
        ({"encoder_checkpoint": "none.pt"}, ["none.pt", "--encoder_checkpoint"]),
        ({"dataset_dir": ""}, ["--dataset_dir"]),
        ({"dataset_dir": "nowhere"}, ["nowhere/datalist.json"]),
        ({"resume": "maybe"}, ["Unknown resume 'maybe'", "true, false, auto"]),
        ({"modalities": 5}, ["modalities must be modalities by name", "got 5"]),
        ({"modalities": {"mole": "xray"}}, ["Unknown modality 'xray' in modalities; choose one of oct, "]),
        ({"network_def::num_tasks": 3}, ["A network of 3 tasks cannot have 8 names"]),
        ({"network_def::image_size": -32}, ["image_size must be one or two multiples of 32, got -32"]),
        ({"network_def": 5}, ["network_def is a part of the configuration, not a single value, got 5"]),
        ({"loss": {}}, ["loss must be a component such as {'_target_': 'monai_tpseg.losses.TPSegLoss', ...}, got {}"]),
        ({"loss::contrastive_weight": -1}, ["contrastive_weight must be a number of at least 0, got -1"]),
        ({"optimizer": {"_target_": "torch.optim.Adem"}}, ["there is no class or function 'torch.optim.Adem'"]),
    ],
)
def test_training(bundle_dir: Path, phantoms: Path, tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    values = {**SMALL, "dataset_dir": str(phantoms), **changes}
    line = refused(bundle_dir, "train", tmp_path / "out", **values)
    assert all(word in line for word in words), line


def test_a_foreign_sam2_file(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    values = {
        **SMALL,
        "recipe": "paper",
        "dataset_dir": str(phantoms),
        "encoder_checkpoint": str(tmp_path / "foreign.pt"),
    }
    assert "not an official SAM 2 file" in refused(bundle_dir, "train", tmp_path / "out", **values)


def test_weights_of_tasks_in_another_order(bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path) -> None:
    tasks = ["skin_lesion", *TASK_NAMES[1:-1], "wet_amd"]
    values = {**SMALL, "dataset_dir": str(phantoms), "checkpoint": str(trained / "model.pt"), "tasks": tasks}
    assert "was trained for wet_amd" in refused(bundle_dir, "train", tmp_path / "out", **values)


def test_damaged_description(bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copyfile(trained / "model.pt", tmp_path / "model.pt")
    (tmp_path / "model.json").write_text("{")
    line = inference(bundle_dir, phantoms, trained, tmp_path, checkpoint=str(tmp_path / "model.pt"))
    assert "model.json' is not the description" in line


@pytest.mark.parametrize("change", [{"max_epochs": 3}, {"tasks": ["skin_lesion", *TASK_NAMES[1:-1], "wet_amd"]}])
def test_a_run_is_resumed_with_its_own_settings(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    values = {**SMALL, "dataset_dir": str(phantoms), "output_dir": "run", "resume": True, **change}
    with pytest.raises(SystemExit, match=r"resume with the same (max_epochs|tasks)"):
        run(bundle_dir, "train", **values)


def test_a_frozen_random_trunk_is_refused_however_training_starts(
    bundle_dir: Path, phantoms: Path, tmp_path: Path
) -> None:
    values = {**SMALL, "recipe": "paper", "dataset_dir": str(phantoms), "output_dir": str(tmp_path / "out")}
    file = str(bundle_dir / "configs" / "train.json")
    workflow = create_workflow(config_file=file, workflow_type="train", logging_file=False, **values)
    with pytest.raises(CheckpointError, match="nothing was loaded into the trunk"):
        workflow.trainer.run()


def test_an_earlier_run_is_not_overwritten(bundle_dir: Path, phantoms: Path, trained: Path) -> None:
    with pytest.raises(SystemExit, match="already holds a run"):
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir=str(trained), **SMALL)


def test_an_unreadable_training_image_is_named(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    datalist = changed_list(phantoms, tmp_path, image=str(tmp_path / "bad.png"))
    with pytest.raises(SystemExit, match=r"bad\.png"):
        run(
            bundle_dir, "train", dataset_dir=str(phantoms), datalist=datalist, output_dir="out", **SMALL, cache_rate=1.0
        )


@pytest.mark.parametrize(
    ("config", "setting", "words"),
    [
        ("inference", {"stem": "conv"}, "Unknown setting 'stem': did you mean network_def::stem\\?"),
        ("evaluate", {"tsaks": ["wet_amd"]}, "Unknown setting 'tsaks': did you mean tasks\\?"),
        ("train", {"max_epoch": 3}, "Unknown setting 'max_epoch': did you mean max_epochs\\?"),
    ],
)
def test_a_setting_without_effect_is_refused_from_python(
    bundle_dir: Path, trained: Path, config: str, setting: dict[str, Any], words: str
) -> None:
    file = str(bundle_dir / "configs" / f"{config}.json")
    settings = {"checkpoint": str(trained / "model.pt"), **SMALL, **setting}  # keys of other configs pass
    workflow = ConfigWorkflow(config_file=file, workflow_type="train", logging_file=False, **settings)
    with pytest.raises(Exception) as error:  # noqa: PT011  # MONAI wraps what an expression raises
        workflow.initialize()
    assert re.search(words, str(find(error.value)))
    del settings[next(iter(setting))]
    ConfigWorkflow(config_file=file, workflow_type="train", logging_file=False, **settings).initialize()


def find(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"architecture": "unet", "backbone": "hiera_tiny"},
            "backbone 'hiera_tiny' is not an option of architecture 'unet'",
        ),
        ({"architecture": "unet", "detail": 16}, "detail 16 is not an option"),
        ({"architecture": "unet", "freeze_encoder": "true"}, "freeze_encoder True is not an option"),
        ({"width": 8, "backbone": "hiera_demo"}, "width 8 is not an option of architecture 'tpseg', which has adapter"),
    ],
)
def test_options_of_another_architecture(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    values = {**{k: v for k, v in SMALL.items() if k != "backbone"}, "dataset_dir": str(phantoms), **changes}
    assert words in refused(bundle_dir, "train", tmp_path / "out", **values)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--tsak", ["Unknown option --tsak", "did you mean --task?"]),
        ("-treshold", ["did you mean --threshold?"]),
        ("--stem", ["Unknown option --stem", "did you mean --network_def#stem?"]),
        ("--network_def#detail", ["holds weights of detail '0', not '3'; leave that option out"]),
    ],
)
def test_mistyped_option_on_the_command_line(
    bundle_dir: Path, phantoms: Path, trained: Path, tmp_path: Path, option: str, words: list[str]
) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(bundle_dir / "configs/inference.json")]
    command += [
        "--dataset_dir",
        str(phantoms / "demo"),
        "--checkpoint",
        str(trained / "model.pt"),
        "--task",
        "skin_lesion",
        option,
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert all(word in last for word in words), last
    assert list(tmp_path.iterdir()) == []
