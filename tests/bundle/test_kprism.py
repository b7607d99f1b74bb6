"""The K-Prism bundle: train, evaluate in three ways, infer with three kinds of prompts, MONAI's tools, refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.evaluation.details import DETAILS
from monai_tpseg.networks import KPrism, kprism_demo
from monai_tpseg.networks.checkpoint import load_weights, read_checkpoint
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.studies.model import Model
from tests.bundle.conftest import _restore_logging, history, read_only_copy, run
from tests.bundle.test_errors import refused

NAME = "kprism_universal_segmentation"
SOURCE = Path(__file__).resolve().parents[2] / "bundles" / NAME
SMALL: dict[str, Any] = {
    "backbone": "utnet_demo",
    "image_size": 32,
    "batch_size": 4,
    "max_epochs": 2,
    "rounds": 2,
    "val_clicks": 2,
    "num_workers": 0,
    "epoch_cases": 8,
    "progress": False,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def kprism_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle, read-only."""
    return read_only_copy(SOURCE, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def weights(kprism_dir: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a training of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    here = Path.cwd()
    os.chdir(folder.parent)
    try:
        run(kprism_dir, "train", dataset_dir=str(phantoms), output_dir=str(folder), **SMALL)
    finally:
        os.chdir(here)
        _restore_logging()
    return folder / "model.pt"


def network(weights: Path) -> KPrism:
    net = kprism_demo(8).eval()
    load_weights(net, weights)
    return net


def test_training_leaves_what_the_next_commands_need(weights: Path) -> None:
    folder = weights.parent
    names = {p.name for p in folder.iterdir()}
    assert {"model.pt", "model.json", "last.pt", "history.json", "curves.png", "tensorboard"} <= names
    assert (folder / "validation" / "clicks.png").is_file()
    info = read_info(weights, verify=True)
    assert info.tasks == TASK_NAMES
    assert (info.network["architecture"], info.network["backbone"]) == ("kprism", "utnet_demo")
    assert info.training["shares"] == [0.3, 0.3, 0.4]
    metrics = history(folder)[-1]["metrics"]
    assert {"dice/mean", "noc85/mean", "noc90/mean", "dice_after_0/mean", "dice_after_1/mean"} <= set(metrics)
    assert network(weights)(torch.zeros(1, 3, 32, 32), 1).isfinite().all()


@pytest.mark.parametrize("start", ["semantic", "in_context", "interactive"])
def test_evaluation(kprism_dir: Path, phantoms: Path, weights: Path, tmp_path: Path, start: str) -> None:
    clicks = {"clicks": 3} if start == "interactive" else {}
    settings = {"checkpoint": str(weights), "output_dir": "out", "num_workers": 0, "progress": False}
    run(kprism_dir, "evaluate", dataset_dir=str(phantoms), start=start, **settings, **clicks)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics) == {*TASK_NAMES, "mean"}
    assert metrics["mean"].keys() >= {*DETAILS}
    assert metrics["mean"]["ece"] is not None
    assert (tmp_path / "out" / "clicks.json").exists() == (start == "interactive")
    if start == "interactive":
        mean = json.loads((tmp_path / "out" / "clicks.json").read_text())["mean"]
        assert len(mean["curve"]) == 4
        assert mean["dice_after_3"] == pytest.approx(metrics["mean"]["dice"], abs=1e-4)
        assert 0 <= mean["noc85"] <= mean["noc90"] <= 3


def picture(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path)) > 127


def test_inference_with_a_class_with_exemplars_and_with_clicks(
    kprism_dir: Path, phantoms: Path, weights: Path, tmp_path: Path
) -> None:
    source = phantoms / "demo" / "skin_lesion.png"
    listed = json.loads((phantoms / "datalist.json").read_text())["training"]
    shown = [{k: str(phantoms / e[k]) for k in ("image", "label")} for e in listed if e["task"] == "skin_lesion"]
    (tmp_path / "exemplars.json").write_text(json.dumps(shown[:2]))
    (tmp_path / "clicks.json").write_text(json.dumps({"skin_lesion.png": [[20, 22, 1], [2, 3, -1]]}))
    (tmp_path / "other.json").write_text(json.dumps([[2, 3, 1], [20, 22, -1]]))
    settings = {"checkpoint": str(weights), "task": "skin_lesion", "progress": False, "save_probabilities": True}
    prompts: dict[str, dict[str, Any]] = {
        "class": {},
        "exemplars": {"exemplars": "exemplars.json"},
        "clicks": {"clicks": "clicks.json"},
        "others": {"clicks": "other.json"},
        "all": {"exemplars": "exemplars.json", "clicks": "clicks.json", "use_class": True},
    }
    found = {}
    for name, prompt in prompts.items():
        run(kprism_dir, "inference", dataset_dir=str(source), output_dir=name, **settings, **prompt)
        assert picture(tmp_path / name / "skin_lesion_skin_lesion_mask.png").shape == picture(source).shape[:2]
        found[name] = np.asarray(Image.open(tmp_path / name / "skin_lesion_skin_lesion_prob.png")).astype(float)
    names = list(prompts)
    assert all((found[a] != found[b]).any() for i, a in enumerate(names) for b in names[:i])


def test_a_volume_with_exemplars(kprism_dir: Path, phantoms: Path, weights: Path, tmp_path: Path) -> None:
    listed = json.loads((phantoms / "datalist.json").read_text())["training"]
    shown = [{k: str(phantoms / e[k]) for k in ("image", "label")} for e in listed if e["task"] == "brain_tumor"]
    (tmp_path / "exemplars.json").write_text(json.dumps(shown[:1]))
    run(
        kprism_dir,
        "inference",
        dataset_dir=str(phantoms / "demo" / "brain_tumor.nii.gz"),
        task="brain_tumor",
        exemplars="exemplars.json",
        checkpoint=str(weights),
        output_dir="out",
        progress=False,
    )
    assert (tmp_path / "out" / "brain_tumor_brain_tumor_mask.nii.gz").is_file()


@torch.no_grad()
def test_the_studies_command_runs_the_weights_by_class(phantoms: Path, weights: Path) -> None:
    source = phantoms / "demo" / "skin_lesion.png"
    found = Model(str(weights), "cpu").segment(source, "skin_lesion")
    assert tuple(found.mask.shape[-2:]) == picture(source).shape[:2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": None}, ["no default task"]),
        ({"use_class": False}, ["use_class=false needs another prompt"]),
        ({"clicks": "none.json"}, ["No file at 'none.json'", "--clicks"]),
        ({"clicks": {"skin_lesion.png": [[1, 2]]}}, ["'skin_lesion.png'", "[row, column, 1 or -1]", "[1, 2]"]),
        ({"clicks": {"other.png": [[1, 2, 1]]}}, ["no clicks for 'skin_lesion.png'", "other.png"]),
        ({"clicks": [[1, 999, 1]]}, ["row 1, column 999 lies outside 'skin_lesion.png'"]),
        ({"exemplars": []}, ["must be a list of exemplars"]),
        ({"exemplars": [{"image": "a.png"}]}, ["[0]", "no image at"]),
        ({"backbone": "utnet"}, ["backbone 'utnet_demo', not 'utnet'"]),
        ({"image_size": 64}, ["64 x 64", "32 x 32"]),
        ({"network_def::backbone": "utnett"}, ["Unknown backbone 'utnett'; did you mean utnet?"]),
    ],
)
def test_inference_that_cannot_be(
    kprism_dir: Path, phantoms: Path, weights: Path, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    given = dict(changes)
    for key in ("clicks", "exemplars"):
        if not isinstance(given.get(key, ""), str):
            (tmp_path / f"{key}.json").write_text(json.dumps(given[key]))
            given[key] = f"{key}.json"
    source = str(phantoms / "demo" / "skin_lesion.png")
    settings = {"dataset_dir": source, "task": "skin_lesion", "checkpoint": str(weights), "progress": False}
    line = refused(kprism_dir, "inference", tmp_path / "out", **{**settings, **given})
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_context_share": 0.5}, ["must add up to 1, got 0.3, 0.5, 0.4"]),
        ({"rounds": 0}, ["rounds must be a whole number of at least 1, got 0"]),
        ({"exemplars": 9}, ["Task 'wet_amd' has", "9 exemplars"]),
        ({"backbone": "hiera_huge"}, ["Unknown backbone 'hiera_huge'", "utnet"]),
        ({"encoder_checkpoint": "sam.pt"}, ["encoder_checkpoint is only for SAM 2's trunks, not for backbone 'utnet"]),
        ({"freeze_encoder": True}, ["freeze_encoder is only for SAM 2's trunks, not for backbone 'utnet"]),
        ({"backbone": "hiera_demo", "freeze_encoder": True}, ["freeze_encoder=true needs weights"]),
        ({"val_start": "box"}, ["Unknown val_start 'box'", "in_context"]),
        ({"val_start": "interactive", "val_clicks": 0}, ["val_clicks must be a number from 1 to 100, got 0"]),
        ({"image_size": 40}, ["multiples of 32, got 40"]),
    ],
)
def test_training_that_cannot_be(
    kprism_dir: Path, phantoms: Path, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    line = refused(kprism_dir, "train", tmp_path / "out", **{**SMALL, "dataset_dir": str(phantoms), **changes})
    assert all(word in line for word in words), line


def test_evaluation_that_cannot_be(kprism_dir: Path, phantoms: Path, weights: Path, tmp_path: Path) -> None:
    given = {"dataset_dir": str(phantoms), "checkpoint": str(weights), "start": "in_context"}
    for exemplars in (0, -1, "x", 1.5):
        line = refused(kprism_dir, "evaluate", tmp_path / "out", exemplars=exemplars, **given)
        assert "exemplars must be" in line
        assert repr(exemplars) in line
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(SystemExit, match="cannot be written \\(Not a directory\\); choose another --output_dir"):
        run(kprism_dir, "evaluate", output_dir=str(file), **given)


def test_the_weights_of_one_bundle_are_refused_by_the_other(
    kprism_dir: Path, bundle_dir: Path, phantoms: Path, weights: Path, trained: Path, tmp_path: Path
) -> None:
    source = {"dataset_dir": str(phantoms / "demo" / "skin_lesion.png"), "task": "skin_lesion"}
    line = refused(bundle_dir, "inference", tmp_path / "a", checkpoint=str(weights), **source)
    assert "Unknown architecture 'kprism'" in line
    line = refused(kprism_dir, "inference", tmp_path / "b", checkpoint=str(trained / "model.pt"), **source)
    assert "Unknown architecture 'tpseg'" in line


def test_metadata_follows_the_schema(kprism_dir: Path, shared_dir: Path) -> None:
    schema = shared_dir / "schema" / "meta_schema_20240725.json"
    monai.bundle.verify_metadata(meta_file=str(kprism_dir / "configs" / "metadata.json"), filepath=str(schema))


@pytest.mark.parametrize("config", ["train", "evaluate", "inference"])
def test_network_and_properties(kprism_dir: Path, config: str) -> None:
    file = str(kprism_dir / "configs" / f"{config}.json")
    for extra in ({}, {"prompt": 7}):
        monai.bundle.verify_net_in_out(
            net_id="network_def",
            config_file=file,
            meta_file=str(kprism_dir / "configs" / "metadata.json"),
            device="cpu",
            n=2,
            extra_forward_args=extra,
            backbone="utnet_demo",
            checkpoint="",  # no description of weights: their stem is not for this backbone
        )
    kind = "train" if config == "train" else "infer"
    workflow = ConfigWorkflow(
        config_file=file, workflow_type=kind, logging_file=False, backbone="utnet_demo", checkpoint="", device="cpu"
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_load_returns_the_trained_network(kprism_dir: Path, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "zoo" / NAME
    shutil.copytree(kprism_dir, folder)
    (folder / "models").chmod(0o755)
    for name in ("model.pt", "model.json"):
        shutil.copyfile(weights.parent / name, folder / "models" / name)
    net = monai.bundle.load(name=NAME, bundle_dir=str(folder.parent), device="cpu")
    assert isinstance(net, KPrism)
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(net.eval()(image, 5), network(weights)(image, 5))


def test_federated_client(kprism_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "dataset_dir": str(phantoms), "output_dir": str(tmp_path / "client")}
    options = {"train_kwargs": dict(settings), "eval_kwargs": dict(settings), "send_weight_diff": False}
    algo = MonaiAlgo(bundle_root=str(kprism_dir), local_epochs=1, **options)
    algo.initialize(extra={ExtraItems.CLIENT_NAME: "site"})
    start = {k: v.clone() for k, v in algo.get_weights().weights.items()}
    algo.train(ExchangeObject(weights=start))
    after = algo.get_weights().weights
    assert any(not torch.equal(v, start[k]) for k, v in after.items())
    assert 0.0 <= algo.evaluate(ExchangeObject(weights=after)).metrics["dice"] <= 1.0
    algo.finalize()


@pytest.mark.slow
def test_two_processes_train(kprism_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    configs = [str(kprism_dir / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
    words = ["-m", "monai.bundle", "run", "--config_file", str(configs), "--dataset_dir", str(phantoms)]
    words += [w for k, v in {**SMALL, "output_dir": str(tmp_path / "run")}.items() for w in (f"--{k}", str(v))]
    words = [w for w in words if w not in ("--device", "cpu")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE.parents[1]), environment.get("PYTHONPATH", "")])
    done = subprocess.run([*launcher, *words], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(history(tmp_path / "run")) == 2
    assert read_info(tmp_path / "run" / "model.pt", verify=True).network["architecture"] == "kprism"


def test_a_resumed_run_ends_where_the_whole_one_does(kprism_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    def train(folder: str, stop: bool = False, resume: bool = False) -> dict[str, torch.Tensor]:
        settings = {**SMALL, "val_clicks": 0, "dataset_dir": str(phantoms), "output_dir": folder, "resume": resume}
        file = str(kprism_dir / "configs" / "train.json")
        workflow = ConfigWorkflow(config_file=file, workflow_type="train", logging_file=False, **settings)
        workflow.initialize()
        if stop:
            trainer = workflow.parser.get_parsed_content("train::trainer")
            trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
        workflow.run()
        workflow.finalize()
        state: dict[str, torch.Tensor] = read_checkpoint(Path(folder) / "last.pt")["network"]
        return state

    whole = train("whole")
    train("parts", stop=True)
    resumed = train("parts", resume=True)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
