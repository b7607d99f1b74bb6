"""What MONAI's model zoo checks of a bundle before it takes it, step by step, for a bundle with weights."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import monai.bundle
import pytest
import torch

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import build_network
from monai_tpseg.networks.weights_info import WeightsInfo, read_info, save_weights

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NETWORKS = {
    "tpseg_lesion_segmentation": {"architecture": "tpseg", "backbone": "hiera_demo"},
    "kprism_universal_segmentation": {"architecture": "kprism", "backbone": "utnet_demo"},
}


@pytest.fixture(scope="module", params=NETWORKS)
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_dir: Path) -> Path:
    """A bundle as the zoo has it when it looks: with weights, and with the schema where the zoo's script saves it."""
    folder = tmp_path_factory.mktemp("models") / request.param
    shutil.copytree(BUNDLES / request.param, folder)
    torch.manual_seed(0)
    net = build_network(num_tasks=len(TASK_NAMES), **NETWORKS[request.param])  # type: ignore[arg-type]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn_like(p))
    info = WeightsInfo(tasks=TASK_NAMES, network=NETWORKS[request.param], image_size=(64, 64))
    save_weights(folder / "models" / "model.pt", net.state_dict(), info)
    (folder / "eval").mkdir()
    shutil.copyfile(shared_dir / "schema" / "meta_schema_20240725.json", folder / "eval" / "schema.json")
    return folder


def test_files_and_versions(zoo: Path) -> None:
    meta = json.loads((zoo / "configs" / "metadata.json").read_text())
    assert meta["version"] in meta["changelog"]
    assert meta["schema"].endswith("meta_schema_20240725.json")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", meta[key]) for key in ("monai_version", "pytorch_version"))
    assert (zoo / "LICENSE").is_file()
    assert (zoo / "docs" / "README.md").is_file()


def test_metadata(zoo: Path) -> None:
    monai.bundle.verify_metadata(
        meta_file=str(zoo / "configs" / "metadata.json"), filepath=str(zoo / "eval" / "schema.json")
    )


@pytest.mark.filterwarnings("ignore:No task was given")
def test_shapes(zoo: Path) -> None:
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(zoo / "configs" / "metadata.json"),
        config_file=str(zoo / "configs" / "inference.json"),
        bundle_root=str(zoo),
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(zoo: Path) -> None:
    file = zoo / "models" / "verify_model.ts"
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(file),
        ckpt_file=str(zoo / "models" / "model.pt"),
        meta_file=str(zoo / "configs" / "metadata.json"),
        config_file=str(zoo / "configs" / "inference.json"),
        bundle_root=str(zoo),
    )
    scripted = torch.jit.load(str(file))
    info = read_info(zoo / "models" / "model.pt")
    net = build_network(num_tasks=len(info.tasks), **info.network).eval()
    net.load_state_dict(torch.load(zoo / "models" / "model.pt", weights_only=True))
    with torch.no_grad():
        for size, rows in (((2, 3, 64, 64), [6, 1]), ((1, 3, 96, 160), [3]), ((3, 3, 256, 32), [0, 7, 2])):
            image, task = torch.randn(size), torch.tensor(rows)
            torch.testing.assert_close(scripted(image, task), net(image, task), atol=1e-4, rtol=1e-4)
