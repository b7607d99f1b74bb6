"""Weights of the narrowest K-Prism, and sources of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_tpseg.annotate import PromptModel
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.networks import kprism_demo
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.testing.phantoms import (
    make_phantom,
    make_volume,
    write_dicom_cine,
    write_dicom_picture,
    write_dicom_series,
    write_nifti,
    write_png,
)
from monai_tpseg.transforms import pipelines_hash

SIZE = (32, 64)
"""Of the network's input: rows and columns are told apart."""

NETWORK = {"architecture": "kprism", "backbone": "utnet_demo"}
"""Arguments of `build_network`."""


def write_weights(path: Path, seed: int = 0) -> Path:
    """Write random weights of the narrowest K-Prism."""
    torch.manual_seed(seed)
    info = WeightsInfo(TASK_NAMES, NETWORK, SIZE, preprocessing=pipelines_hash())
    save_weights(path, kprism_demo(len(TASK_NAMES)).state_dict(), info)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for all tasks."""
    return write_weights(tmp_path_factory.mktemp("weights") / "model.pt")


@pytest.fixture(scope="session")
def model(weights: Path) -> PromptModel:
    """The network of `weights`; tests leave it as it is."""
    return PromptModel(weights, "cpu")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A case of each kind; read-only by agreement."""
    folder = tmp_path_factory.mktemp("sources")
    skin = make_phantom("skin_lesion", 4, (36, 52))
    write_png(skin.image, folder / "skin.png")
    write_png((skin.label * 255).astype("uint8"), folder / "skin_label.png")
    write_nifti(make_volume("lung_infection", 3, (40, 36, 6)), folder / "chest.nii.gz")
    write_nifti(make_volume("brain_tumor", 3, (40, 36, 6)), folder / "head.nii.gz")
    return {
        "picture": folder / "skin.png",
        "label": folder / "skin_label.png",
        "ct": folder / "chest.nii.gz",
        "mr": folder / "head.nii.gz",
        "series": write_dicom_series(make_volume("lung_infection", 1, (32, 40, 6)), folder / "series"),
        "us": write_dicom_picture(make_phantom("breast_lesion", 2, (40, 48)), folder / "breast.dcm"),
        "cine": write_dicom_cine(make_volume("breast_lesion", 2, (40, 48, 6)), folder / "cine.dcm"),
    }
