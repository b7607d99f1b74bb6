"""The weights of a server: the starter weights or given ones, until a training has made better ones."""

from __future__ import annotations

import threading
from pathlib import Path

from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.files import write_atomically
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.studies import Model
from monai_tpseg.weights import choose_weights

__all__ = ["Models"]

_CURRENT = "current"


class Models:
    """Loads networks when they are asked for, and again when a training in another process has published weights.

    Args:
        folder: folder of the trainings; its file `current` names the weights of the last one.
        tpseg, kprism: files or names of the catalogue to begin with; by default the starter weights.
        device: name of a device; by default the first GPU, or the CPU.
    """

    def __init__(self, folder: Path, tpseg: str = "", kprism: str = "", device: str = "") -> None:
        self.folder, self._given, self._clicks, self._device = folder, tpseg, kprism, device or None
        self._lock = threading.Lock()
        self._loaded: tuple[str, Model] | None = None
        self._prompt: PromptModel | None = None

    @property
    def weights(self) -> str:
        """The current weights of TP-Seg."""
        current = self.folder / _CURRENT
        return str(self.folder / current.read_text().strip()) if current.is_file() else self._given

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of these weights."""
        return read_info(choose_weights(self.weights or None)).tasks

    def publish(self, weights: Path) -> None:
        """Segment with weights below `folder` from now on."""
        write_atomically(self.folder / _CURRENT, f"{weights.relative_to(self.folder)}\n".encode())

    def tpseg(self) -> Model:
        """Return TP-Seg.

        Raises:
            CheckpointError: weights are missing, damaged, or do not fit.
        """
        with self._lock:
            weights = self.weights
            if self._loaded is None or self._loaded[0] != weights:
                self._loaded = weights, Model(weights or None, self._device)
            return self._loaded[1]

    def kprism(self) -> PromptModel:
        """Return K-Prism.

        Raises:
            CheckpointError: weights are missing, damaged, or do not fit.
        """
        with self._lock:
            if self._prompt is None:
                self._prompt = PromptModel(self._clicks or None, self._device)
            return self._prompt
