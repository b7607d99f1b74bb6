"""TP-Seg for MONAI: one model for eight medical lesion segmentation tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD
from monai_tpseg.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from monai_tpseg.studies.model import Model

__all__ = ["__version__", "load_model"]


def load_model(
    weights: str | Path | None = None,
    device: str | None = None,
    threshold: float = THRESHOLD,
    min_lesion_area: int = MIN_LESION_AREA,
    precision: str = "fp32",
    runtime: str = "pytorch",
    contours: bool = False,
) -> Model:
    """Load TP-Seg with its weights for segmenting files. This call imports PyTorch and MONAI.

    Args:
        weights: weights file with its description beside it, or a name in the catalogue. Default: the starter weights,
            with one line about them on standard error.
        device: device name. Default: the first GPU, or the CPU.
        threshold: pixels with at least this probability belong to the lesion; in (0, 1).
        min_lesion_area: size of the smallest lesion to keep, in pixels or voxels.
        precision: "fp32", "bf16", "fp16" (GPU only), or "auto", the fastest on the device (CPUs are measured once).
        runtime: "pytorch", or "onnxruntime" or "openvino" on a CPU.
        contours: whether to add an inner and an outer contour; the weights must be calibrated (`tpseg calibrate`).

    Returns:
        the model. `segment(source, task)` returns probabilities, mask and numbered lesions; its attribute `trust` says
        how far the mask can be trusted. `network` is the network, `info` the description of the weights.

    Raises:
        ValueError: the weights do not exist, are damaged or altered, or the device or precision is not available.

    Examples:
        >>> model = load_model()  # doctest: +SKIP
        >>> model.segment(Path("my.png"), "skin_lesion").mask.shape  # doctest: +SKIP
        torch.Size([1, 480, 640])
    """
    from monai_tpseg.studies.model import Model, Settings

    settings = Settings(threshold, min_lesion_area, precision=precision, contours=contours, runtime=runtime)
    return Model(weights, device, settings)
