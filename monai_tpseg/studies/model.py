"""The model of a run, loaded once, and its application to a case."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from monai.data import MetaTensor
from torch import nn

from monai_tpseg.cores import crowded, fit_threads
from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.inferers.task_inferer import Window
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.networks.described import build_described
from monai_tpseg.networks.fast.inference_form import (
    PRECISIONS,
    choose_device,
    choose_precision,
    network_for_inference,
)
from monai_tpseg.networks.fast.runtimes import RuntimeNetwork, check_runtime
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.results.codes import StudyError
from monai_tpseg.results.folder import digest
from monai_tpseg.results.label_maps import check_label_maps
from monai_tpseg.segment import Finish, Segmentation, Segmenter
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.transforms.pipelines import slide_mpp
from monai_tpseg.transforms.transfer import load_case
from monai_tpseg.trust import Judge
from monai_tpseg.version import __version__
from monai_tpseg.weights import choose_weights
from monai_tpseg.words import choose

if TYPE_CHECKING:
    from monai_tpseg.io.dicom.segmentation import Encoding

__all__ = ["Model", "Settings"]

logger = logging.getLogger(__name__)

_HIDDEN_BATCH = 8  # slices per batch if their memory cannot be measured
_LATER = ("encoding", "label_maps")  # settings introduced after 0.2.0


@dataclass(frozen=True)
class Settings:
    """All settings that affect a result in addition to weights and input; part of the key of `--resume`.

    Attributes:
        threshold: smallest probability of a lesion pixel, in (0, 1).
        min_lesion_area: size of the smallest lesion that is kept, in pixels or voxels.
        mpp: micrometres per pixel at which whole slides are read; that of the modality file by default.
        slide_mpp: micrometres per pixel of the finest level, for slides that do not state them.
        skip_glass: skip windows of a slide without tissue.
        seg: also write a DICOM segmentation if the source is DICOM.
        sr: also write a DICOM structured report if the source is DICOM, even for an empty mask.
        skip_empty: skip empty slices of a volume, see `monai_tpseg.inferers.tissue`.
        precision: precision of the network: "fp32", "bf16", "fp16" (on a GPU), or "auto", the fastest on the device.
        runtime: runtime of the network: "pytorch", or on a CPU "onnxruntime" or "openvino".
        contours: also compute the inner and the outer contour, see `monai_tpseg.trust.contours`.
        refuse: make no mask for a picture that does not belong to the task.
        probabilities: also write the probabilities.
        encoding: encoding of the DICOM segmentation, "binary" or "labelmap".
        label_maps: label maps of volumes, from `monai_tpseg.results.label_maps.LABEL_MAPS`.
    """

    threshold: float = THRESHOLD
    min_lesion_area: int = MIN_LESION_AREA
    mpp: float | None = None
    slide_mpp: float | None = None
    skip_glass: bool = True
    seg: bool = True
    sr: bool = True
    skip_empty: bool = False
    precision: str = "fp32"
    runtime: str = "pytorch"
    contours: bool = False
    refuse: bool = False
    probabilities: bool = False
    encoding: Encoding = "binary"
    label_maps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            Finish(self.threshold, self.min_lesion_area)
            check_label_maps(self.label_maps)
        except ValueError as error:
            raise StudyError(f"{error}") from error
        if self.precision not in PRECISIONS:
            raise StudyError(f"Unknown precision {self.precision!r}; {choose(self.precision, PRECISIONS)}.")
        for name, value in (("mpp", self.mpp), ("slide_mpp", self.slide_mpp)):
            if value is not None and not 0 < value < 100:
                raise StudyError(f"{name} must be micrometres per pixel, above 0 and below 100, got {value}.")

    @property
    def finish(self) -> Finish:
        """The conversion of probabilities to masks."""
        return Finish(self.threshold, self.min_lesion_area)


class Model:
    """A network with its weights, and the path from a source to a mask.

    TP-Seg runs in its fast form, see `monai_tpseg.networks.fast.inference_form`; a network without one runs as it was
    trained.

    Args:
        checkpoint: weights with their description beside them, or a name in the catalogue; the starter weights by
            default. The digest is verified, loading is strict.
        device: see `choose_device`.
        settings: threshold, smallest lesion, precision.
        slice_batch: slices of a volume, or windows of a slide, per batch, or "auto": as many as fit into `memory_mb`.
        memory_mb: memory limit in MiB, see `TaskInferer`.
        judged: whether to compute the trust estimates fitted for the weights, see `monai_tpseg.trust.Judge`.

    Raises:
        CatalogueError: no such weights in the catalogue.
        CheckpointError: weights or description are missing, damaged, or incompatible; `refuse` is set, and no refusal
            was fitted for the weights.
        StudyError: the device does not support the precision.
        ValueError: there is no such device.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        settings: Settings | None = None,
        slice_batch: int | Literal["auto"] = "auto",
        memory_mb: float = 1024,
        judged: bool = True,
    ) -> None:
        checkpoint = choose_weights(checkpoint)
        self.info: WeightsInfo = read_info(checkpoint, verify=True)
        self.device = choose_device(device)
        self.settings = settings or Settings()
        self.preprocessing = pipelines_hash()
        runtime = self.settings.runtime
        in_pytorch = runtime == "pytorch"
        beside = checkpoint, self.info, self.settings.contours, judged
        self.judge = Judge.beside(*beside, observable=in_pytorch)
        if self.settings.refuse and not in_pytorch:
            raise StudyError(
                f"--refuse needs access to the network's features, which '{runtime}' does not give: omit one of them."
            )
        if self.settings.refuse:
            self.judge.check_refuses(checkpoint)
        computing = fit_threads()
        if self.device.type == "cpu" and (hint := crowded(computing)):
            logger.warning("%s", hint)
        try:
            self.precision = choose_precision(self.settings.precision, self.device)
            check_runtime(runtime, self.device, self.precision)
        except ValueError as error:
            raise StudyError(f"{error}") from error
        trained = build_described(checkpoint)
        network, why_plain = network_for_inference(trained.to(self.device), self.precision)
        self.fast = not why_plain
        if not in_pytorch:
            if why_plain:
                raise StudyError(f"{why_plain} It runs only in PyTorch: omit --runtime.")
            network = RuntimeNetwork(trained, runtime, self.info.sha256, self.precision)
            slice_batch = _HIDDEN_BATCH if slice_batch == "auto" else slice_batch
        logger.info("%s Precision: %s.", why_plain or "The network runs in its fast form.", self.precision)
        inferer = TaskInferer(
            self.info.image_size,
            cast(Window, self.info.window),
            slice_batch=slice_batch,
            memory_mb=memory_mb,
            device=self.device,  # slices are moved there, the volume stays in host memory
            skip_empty=self.settings.skip_empty,
        )
        described = self.info.tasks, inferer, self.settings.finish, self.info.modalities
        self.segmenter = Segmenter(network, *described, self.judge)

    @property
    def network(self) -> nn.Module:
        """The network as it runs, called with (image, row of the task)."""
        return self.segmenter.network

    @property
    def slice_batch(self) -> int:
        """Slices of the network's input size per batch."""
        return self.segmenter.inferer.slices_together(self.network, self.info.image_size)

    @property
    def mpp(self) -> float:
        """Micrometres per pixel at which whole slides are read: from the settings, the weights or the modality file."""
        return self.settings.mpp or self.info.mpp or slide_mpp()

    @property
    def config(self) -> dict[str, Any]:
        """All settings that affect a result in addition to weights, task and input."""
        return {
            "image_size": list(self.info.image_size),
            "preprocessing": self.preprocessing,
            "version": __version__,
            "window": self.info.window,
            **self._settings(),
            "mpp": self.mpp,
            "precision": self.precision,
            "fast": self.fast,
            "trust": self.judge.digests,
        }

    def _settings(self) -> dict[str, Any]:
        """The settings; those of `_LATER` only if they are used, so that earlier results stay valid."""
        usual = {name: getattr(Settings, name) for name in _LATER}
        return {name: value for name, value in asdict(self.settings).items() if usual.get(name, ...) != value}

    @property
    def config_sha256(self) -> str:
        """Digest of `config`."""
        return digest(self.config)

    def segment(self, source: CaseSource, task: str, slice_batch: int | None = None) -> Segmentation:
        """Read a source in this process and segment it.

        Args:
            source: a file, the folder of one DICOM series, or the files of one stack.
            task: a name in `info.tasks`.
            slice_batch: replaces that of the model.

        Raises:
            ReadError: the source cannot be read.
        """
        return self.segment_image(load_case(source), task, slice_batch)

    def segment_image(self, image: MetaTensor, task: str, slice_batch: int | None = None) -> Segmentation:
        """Segment an image from `LoadMedicalImage`.

        Args:
            image: (3, H, W) or (3, H, W, D).
            task: a name in `info.tasks`.
            slice_batch: replaces that of the model.
        """
        return self.segment_tasks(image, [task], slice_batch)[0]

    def segment_tasks(
        self, image: MetaTensor, tasks: Sequence[str], slice_batch: int | None = None
    ) -> list[Segmentation]:
        """Segment one image for several tasks: shared computations run once, with results as for single tasks.

        Args:
            image: (3, H, W) or (3, H, W, D).
            tasks: different names in `info.tasks`, of one modality.
            slice_batch: replaces that of the model.

        Raises:
            ValueError: the tasks are of several modalities, whose images are prepared in different ways.
        """
        return self.segmenter(image, tasks, slice_batch=slice_batch)
