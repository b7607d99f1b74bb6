"""K-Prism with its weights, loaded once for all sessions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.defaults import THRESHOLD
from monai_tpseg.inferers.task_inferer import image_size_2d, resize_antialiased
from monai_tpseg.networks import KPrism, Prompt
from monai_tpseg.networks.described import build_described
from monai_tpseg.networks.fast.inference_form import choose_device
from monai_tpseg.networks.kprism import ImageState, Memory
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.segment import Finish, PrepareImage
from monai_tpseg.transforms.pipelines import warn_of_other_pipelines
from monai_tpseg.trust import Judge
from monai_tpseg.weights import choose_weights

__all__ = ["PromptModel"]


class PromptModel:
    """A network with prompts, and the description of its weights.

    Args:
        checkpoint: weights of K-Prism with their description beside them, or a name in the catalogue; the starter
            weights by default. The digest is verified, loading is strict.
        device: name of a device; by default the first GPU, or the CPU.
        threshold: probability from which a pixel is marked, in (0, 1).

    Raises:
        CatalogueError: the catalogue has no such weights.
        CheckpointError: weights, their description or files beside them are missing, damaged or incompatible.
        SessionError: the weights are of another network, or the threshold is out of range.
        ValueError: there is no such device.
    """

    def __init__(
        self, checkpoint: str | Path | None = None, device: str | None = None, threshold: float = THRESHOLD
    ) -> None:
        checkpoint = choose_weights(checkpoint, "kprism")
        self.info: WeightsInfo = read_info(checkpoint, verify=True)
        architecture = self.info.network.get("architecture", "tpseg")
        if architecture != "kprism":
            raise SessionError(
                f"Weights of '{architecture}' do not accept clicks; give K-Prism weights (docs/kprism.md)."
            )
        try:
            self.finish = Finish(threshold)
        except ValueError as error:
            raise SessionError(f"{error}") from error
        warn_of_other_pipelines(self.info.preprocessing)
        self.prepare = PrepareImage()
        self.judge = Judge.beside(checkpoint, self.info)
        self.device = choose_device(device)
        self.image_size = image_size_2d(self.info.image_size)
        network = build_described(checkpoint)
        assert isinstance(network, KPrism)
        self.network: KPrism = network.to(self.device)

    @torch.no_grad()
    def encode(self, image: Tensor) -> ImageState:
        """Encode a picture or slice.

        Args:
            image: (1, 3, H, W) of any size, normalised; resized to `image_size`.
        """
        return self.network.encode(resize_antialiased(image.to(self.device), self.image_size))

    @torch.no_grad()
    def remember(self, image: Tensor, label: Tensor) -> Memory:
        """Encode exemplars.

        Args:
            image: (1, K, 3, h, w), normalised, at a size supported by the network.
            label: (1, K, 1, h, w) in {0, 1}.
        """
        return self.network.remember(image.to(self.device), label.to(self.device))

    @torch.no_grad()
    def decode(self, state: ImageState, prompt: Prompt, memory: Memory | None = None) -> Tensor:
        """Run one decoder pass and return the logits (1, 1, h, w) of `image_size`, float32, on the CPU."""
        return self.network.decode(state, prompt, memory).float().cpu()
