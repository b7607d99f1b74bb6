"""TP-Seg for MONAI: one model for eight medical lesion segmentation tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD

if TYPE_CHECKING:
    from pathlib import Path

    from monai_tpseg.studies.model import Model

__all__ = ["__version__", "load_model"]

__version__ = "0.2.0"


def load_model(
    weights: str | Path | None = None,
    device: str | None = None,
    threshold: float = THRESHOLD,
    min_lesion_area: int = MIN_LESION_AREA,
    precision: str = "fp32",
    runtime: str = "pytorch",
    contours: bool = False,
) -> Model:
    """Load TP-Seg with its weights, ready to segment files; PyTorch and MONAI are imported by this call.

    Args:
        weights: a file with its description beside it, or the name of weights in the catalogue; by default the
            starter weights, which one line on standard error says.
        device: name of a device; by default the first GPU, or the CPU.
        threshold: probability from which a pixel is lesion, in (0, 1).
        min_lesion_area: smallest lesion that stays, pixels or voxels.
        precision: "fp32", "bf16", "fp16" (on a GPU), or "auto", what the device is fastest at: a CPU is measured once.
        runtime: what computes the network: "pytorch", or on a CPU "onnxruntime" or "openvino".
        contours: masks get an inner and an outer contour, where the weights were calibrated (`tpseg calibrate`).

    Returns:
        the model: `segment(source, task)` gives probabilities, mask, numbered lesions, and in `trust` how far the mask
        can be trusted; `network` is the network, `info` the description of the weights.

    Raises:
        ValueError: one line: no such weights, a file that is damaged or altered, no such device or precision.

    Example:
        >>> model = load_model()  # doctest: +SKIP
        >>> model.segment(Path("my.png"), "skin_lesion").mask.shape  # doctest: +SKIP
        torch.Size([1, 480, 640])
    """
    from monai_tpseg.studies.model import Model, Settings

    settings = Settings(threshold, min_lesion_area, precision=precision, contours=contours, runtime=runtime)
    return Model(weights, device, settings)
