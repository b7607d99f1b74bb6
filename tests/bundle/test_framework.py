"""What MONAI's tools ask of a bundle: metadata, properties, load, federated learning, export, tracking."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import TPSeg, tpseg_hiera
from monai_tpseg.networks.checkpoint import load_weights
from tests.bundle.conftest import NAME, SMALL, run


def test_metadata_follows_the_schema(bundle_dir: Path, shared_dir: Path) -> None:
    schema = shared_dir / "schema" / "meta_schema_20240725.json"
    monai.bundle.verify_metadata(meta_file=str(bundle_dir / "configs" / "metadata.json"), filepath=str(schema))


def test_metadata_names_the_catalogue_and_its_own_version(bundle_dir: Path) -> None:
    meta = json.loads((bundle_dir / "configs" / "metadata.json").read_text())
    inputs = meta["network_data_format"]["inputs"]
    assert inputs["task"]["value_range"] == [0, len(TASK_NAMES) - 1]
    assert meta["tasks"] == list(TASK_NAMES)
    assert meta["version"] in meta["changelog"]


@pytest.mark.parametrize(
    ("config", "task"),
    [(config, task) for config in ("train", "evaluate", "inference") for task in (None, 7)]
    + [("inference", task) for task in range(7)],
)
def test_verify_net_in_out(bundle_dir: Path, config: str, task: int | None) -> None:
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        config_file=str(bundle_dir / "configs" / f"{config}.json"),
        meta_file=str(bundle_dir / "configs" / "metadata.json"),
        device="cpu",
        n=2,
        extra_forward_args={} if task is None else {"task": task},
        backbone="hiera_demo",
    )


@pytest.mark.parametrize(
    ("configs", "kind"),
    [(["train"], "train"), (["train", "evaluate"], "train"), (["evaluate"], "infer"), (["inference"], "infer")],
)
def test_properties_are_complete(bundle_dir: Path, phantoms: Path, configs: list[str], kind: str) -> None:
    workflow = ConfigWorkflow(
        config_file=[str(bundle_dir / "configs" / f"{name}.json") for name in configs],
        workflow_type=kind,
        logging_file=False,
        dataset_dir=str(phantoms / "demo" / "skin_lesion.png") if configs == ["inference"] else str(phantoms),
        backbone="hiera_demo",
        device="cpu",
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("config", ["train", "inference"])
def test_properties_are_complete_before_any_data_is_named(bundle_dir: Path, config: str) -> None:
    kind = "train" if config == "train" else "infer"
    files = str(bundle_dir / "configs" / f"{config}.json")
    workflow = ConfigWorkflow(
        config_file=files, workflow_type=kind, logging_file=False, backbone="hiera_demo", device="cpu"
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.fixture
def with_weights(bundle_dir: Path, trained: Path, tmp_path: Path) -> Path:
    """A bundle that ships weights of the demo variant in `models/`."""
    folder = tmp_path / "zoo" / NAME
    shutil.copytree(bundle_dir, folder)
    (folder / "models").chmod(0o755)
    for name in ("model.pt", "model.json"):
        shutil.copyfile(trained / name, folder / "models" / name)
    return folder


@pytest.mark.parametrize("options", [{}, {"workflow_type": "inference"}])
def test_load_returns_the_trained_network(with_weights: Path, trained: Path, options: dict[str, Any]) -> None:
    net = monai.bundle.load(name=NAME, bundle_dir=str(with_weights.parent), device="cpu", **options)
    expected = tpseg_hiera("hiera_demo", 8)
    load_weights(expected, trained / "model.pt")
    assert isinstance(net, TPSeg)
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(net.eval()(image, 5), expected.eval()(image, 5))


def test_create_workflow_initialises_without_a_task(with_weights: Path) -> None:
    workflow = monai.bundle.create_workflow(
        config_file=str(with_weights / "configs" / "inference.json"), workflow_type="inference", logging_file=False
    )
    assert isinstance(workflow.network_def, TPSeg)


def test_federated_client(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "dataset_dir": str(phantoms), "output_dir": str(tmp_path / "client")}
    options = {"train_kwargs": dict(settings), "eval_kwargs": dict(settings), "send_weight_diff": False}
    algo = MonaiAlgo(bundle_root=str(bundle_dir), local_epochs=1, **options)
    algo.initialize(extra={ExtraItems.CLIENT_NAME: "site"})
    start = {k: v.clone() for k, v in algo.get_weights().weights.items()}
    algo.train(ExchangeObject(weights=start))
    after = algo.get_weights().weights
    assert any(not torch.equal(v, start[k]) for k, v in after.items())
    assert any("prototypes" in k and not torch.equal(v, start[k]) for k, v in after.items())
    metrics = algo.evaluate(ExchangeObject(weights=after)).metrics
    assert 0.0 <= metrics["dice"] <= 1.0
    algo.finalize()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_export_to_torchscript(bundle_dir: Path, trained: Path, tmp_path: Path) -> None:
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained / "model.pt"),
        meta_file=str(bundle_dir / "configs" / "metadata.json"),
        config_file=str(bundle_dir / "configs" / "inference.json"),
        checkpoint=str(trained / "model.pt"),  # whose description says what to build
    )
    scripted = torch.jit.load(str(tmp_path / "model.ts"))
    net = tpseg_hiera("hiera_demo", 8).eval()
    load_weights(net, trained / "model.pt")
    image, task = torch.randn(2, 3, 64, 96), torch.tensor([6, 1])
    with torch.no_grad():
        torch.testing.assert_close(scripted(image, task), net(image, task), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_mlflow_tracking(bundle_dir: Path, phantoms: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "max_epochs": 1, "dataset_dir": str(phantoms), "output_dir": str(tmp_path / "tracked")}
    run(bundle_dir, "train", tracking="mlflow", **settings)
    assert (tmp_path / "tracked" / "mlruns.db").is_file()
    assert (tmp_path / "tracked" / "model.pt").is_file()
