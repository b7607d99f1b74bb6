"""What spoils a training is refused, handled or ends it with one line; through the bundle's own engine."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.bundle.preflight import check_train
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks.checkpoint import read_checkpoint
from monai_tpseg.transforms import ResizePictured
from tests.bundle.conftest import SMALL, history, run
from tests.full_disc import largest_file


def test_nan_ends_the_run_with_one_line_and_the_batch(
    bundle_dir: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize = ResizePictured.__call__
    seen: list[int] = []

    def broken(self: ResizePictured, data: Any) -> Any:
        case = resize(self, data)
        seen.append(1)
        if len(seen) > 8:  # in the second epoch
            case["image"][0, 3, 3] = math.nan
        return case

    monkeypatch.setattr(ResizePictured, "__call__", broken)
    with pytest.raises(SystemExit) as caught:
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", **SMALL)
    line = str(caught.value.code)
    assert line.startswith("Error: Training stopped in epoch 2, iteration 3: the loss is nan")
    assert "\n" not in line
    kept = torch.load(tmp_path / "out" / "bad_batch.pt", weights_only=True)
    assert kept["image"].shape == (4, 3, 32, 32)
    assert len(kept["files"]) == 4
    assert all(Path(file).is_file() for file in kept["files"])
    assert Path(kept["files"][0]).name in line
    state = read_checkpoint(tmp_path / "out" / "last.pt")
    assert state["epoch"] == 1
    assert all(bool(torch.isfinite(v).all()) for v in state["network"].values() if v.is_floating_point())
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", **{**SMALL, "resume": True})
    assert len(history(tmp_path / "out")) == 2


def test_a_full_disc_ends_the_run_with_one_line(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    with largest_file(2_000_000), pytest.raises(SystemExit) as caught:
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", **SMALL)
    line = str(caught.value.code)
    assert line.startswith("Error: Cannot write 'out/")
    assert (
        "File too large. Free some space; training then continues from the last complete epoch with --resume true"
        in line
    )
    assert not (tmp_path / "out" / "model.pt").exists()
    assert not [file for file in (tmp_path / "out").iterdir() if file.name.startswith(".")]


def test_a_folder_without_room_is_refused_before_the_training(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(SystemExit) as caught:
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", **SMALL)
    assert caught.value.code == "Error: 'out' cannot be written (File too large); choose another --output_dir."
    assert not (tmp_path / "out").exists()


def test_a_damaged_history_is_one_line(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "history.json").write_text('[{"epo')
    with pytest.raises(SystemExit) as caught:
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", **SMALL)
    line = "Error: out/history.json is not a training history; move it away or choose another folder."
    assert caught.value.code == line


def start_rank(rank: int, port: int, files: list[str], folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """One process of a parallel training, as a scheduler other than torchrun starts it: nobody ends the others."""
    environment = {
        **os.environ,
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
        **{"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    }
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), *options]
    with open(folder / f"rank{rank}.log", "wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)


@pytest.mark.slow
def test_a_killed_process_of_two_ends_the_other_with_one_line(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    files = [str(bundle_dir / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
    small = {**SMALL, "max_epochs": 200, "val_interval": 200, "dataset_dir": phantoms, "output_dir": "out"}
    options = [word for key, value in small.items() for word in (f"--{key}", str(value))]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [start_rank(rank, port, files, tmp_path, *options) for rank in range(2)]
    try:
        until = time.monotonic() + 300
        while not (tmp_path / "out" / "last.pt").is_file() and time.monotonic() < until:
            assert all(process.poll() is None for process in ranks), (tmp_path / "rank0.log").read_text()[-2000:]
            time.sleep(0.05)
        ranks[1].send_signal(signal.SIGKILL)
        code = ranks[0].wait(timeout=120)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    log = (tmp_path / "rank0.log").read_text()
    assert code == 1, log[-2000:]
    last = log.strip().splitlines()[-1]
    assert last.startswith("Error: Process 0 of 2 lost another process, whose output gives the reason"), last
    assert read_checkpoint(tmp_path / "out" / "last.pt")["epoch"] >= 1


def test_an_absurd_learning_rate_ends_the_run(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    options = {**SMALL, "lr": 1e6, "max_epochs": 12, "val_interval": 12}
    with pytest.raises(SystemExit, match=r"Training stopped in epoch \d+.*lower lr"):
        run(bundle_dir, "train", dataset_dir=str(phantoms), output_dir="out", **options)
    assert (tmp_path / "out" / "bad_batch.pt").is_file()


def odd_data(folder: Path, phantoms: Path) -> str:
    """One picture without a lesion for one task, another task without validation, pictures of unequal sizes."""
    first = json.loads((phantoms / "datalist.json").read_text())["training"]
    by_task = {entry["task"]: entry for entry in first}
    entries = {}
    for task in ("wet_amd", "skin_lesion"):
        picture = Image.open(phantoms / by_task[task]["image"])
        picture.resize((picture.width + 31, picture.height)).save(folder / f"{task}.png")
        empty = np.zeros((picture.height, picture.width + 31), np.uint8)
        Image.fromarray(empty).save(folder / f"{task}_label.png")
        entries[task] = {"image": f"{task}.png", "label": f"{task}_label.png", "task": task}
    polyp = {**by_task["colon_polyp"]}
    polyp |= {key: str(phantoms / polyp[key]) for key in ("image", "label")}
    lists = {"training": [entries["wet_amd"], entries["skin_lesion"], polyp], "validation": [polyp]}
    (folder / "datalist.json").write_text(json.dumps(lists))
    return str(folder)


def test_one_empty_picture_a_task_and_a_task_without_validation(
    bundle_dir: Path, phantoms: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    options = {**SMALL, "tasks": ["wet_amd", "skin_lesion", "colon_polyp"], "max_epochs": 1}
    run(bundle_dir, "train", dataset_dir=odd_data(tmp_path / "data", phantoms), output_dir="out", **options)
    (entry,) = history(tmp_path / "out")
    assert math.isfinite(entry["loss"])
    metrics = json.loads((tmp_path / "out" / "validation" / "metrics.json").read_text())
    assert set(metrics) == {"colon_polyp", "mean"}
    assert metrics["mean"]["dice"] == metrics["colon_polyp"]["dice"]
    state = read_checkpoint(tmp_path / "out" / "last.pt")["network"]
    assert all(bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point())


def test_a_training_says_what_its_lists_lack(phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "data").mkdir()
    root = odd_data(tmp_path / "data", phantoms)
    options = {"backbone": "hiera_demo", "image_size": 32, "freeze_encoder": False, "amp": "none"}
    options |= {"encoder_checkpoint": None, "checkpoint": None, "device": "cpu"}
    with caplog.at_level("INFO", "monai_tpseg"), pytest.raises(SystemExit, match="Nothing to resume"):
        check_train(f"{root}/datalist.json", root, TASK_NAMES, str(tmp_path / "out"), resume=True, **options)
    said = {(record.levelname, record.getMessage().split("[")[-1].rstrip("]")) for record in caplog.records}
    codes = ("D_ONE_PICTURE", "D_NO_VALIDATION", "D_LEAK_FILE")
    assert said == {("INFO", "D_ABSENT_TASK"), *(("WARNING", code) for code in codes)}


def test_a_corrupt_file_is_refused_before_the_first_step_when_asked_to(
    bundle_dir: Path, phantoms: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    root = odd_data(tmp_path / "data", phantoms)
    (tmp_path / "data" / "wet_amd.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    options = {**SMALL, "tasks": ["wet_amd", "skin_lesion", "colon_polyp"], "max_epochs": 1, "output_dir": "out"}
    with pytest.raises(
        SystemExit, match=r"^Error: Entries unusable for training: 1, e\.g\. training\[0\].*wet_amd\.png"
    ):
        run(bundle_dir, "train", dataset_dir=root, check_data="true", **options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="Unknown check_data 'perhaps'"):
        run(bundle_dir, "train", dataset_dir=root, check_data="perhaps", **options)
