"""The keys of a batch, each with its shape. B batch, H rows, W columns, D slices.

A case on disk is `{image: path, label: path, task: name}`; after loading it is a dictionary of MetaTensors:
pictures are (3, H, W), volumes (3, H, W, D) with the slices last. See `docs/conventions.md`.
"""

from __future__ import annotations

__all__ = [
    "CLICKS",
    "EXEMPLAR_IMAGE",
    "EXEMPLAR_LABEL",
    "IMAGE",
    "LABEL",
    "LESIONS",
    "PATIENT",
    "PRED",
    "PROB",
    "ROUNDS",
    "SOURCE",
    "TASK",
    "TASK_NAME",
    "TRUST",
]

IMAGE = "image"
"""(B, 3, H, W) float32, RGB, ImageNet-normalised after the modality pipeline; a volume is (B, 3, H, W, D)."""

LABEL = "label"
"""(B, 1, H, W) float32 in {0, 1}; a volume is (B, 1, H, W, D)."""

TASK = "task"
"""A task name in a data list; (B,) int64, the row of the task, in a batch."""

TASK_NAME = "task_name"
"""The name of the task of one case, kept beside its row."""

PATIENT = "patient"
"""Whom an entry of a data list shows, as text; not every list tells. Pictures of one patient belong into one list."""

SOURCE = "source"
"""The path that the image of a training case was read from, kept beside its tensor; a list of them in a batch."""

PRED = "pred"
"""(B, 1, H, W) logits from the network; after postprocessing the mask in {0, 1} on the source grid."""

PROB = "prob"
"""(B, 1, H, W) float32 in [0, 1]: the probabilities that `pred` was thresholded from."""

LESIONS = "lesions"
"""(1, H, W) int32 of one case after postprocessing: the lesions of `pred`, numbered from 1 by size; 0 is background."""

TRUST = "trust"
"""How far `pred` of one case can be trusted, a `monai_tpseg.trust.Trust`; its contours lie on the grid of the image."""

EXEMPLAR_IMAGE = "exemplar_image"
"""(B, K, 3, H, W) float32: K reference images of the sample's task, prepared like `image`."""

EXEMPLAR_LABEL = "exemplar_label"
"""(B, K, 1, H, W) float32 in {0, 1}: their labels."""

CLICKS = "clicks"
"""(B, N, 3) float32: row, column, polarity (1 inside, -1 outside, 0 padding), in pixels of the source picture."""

ROUNDS = "rounds"
"""(B, 1 + N, H, W): the masks before and after each of N simulated clicks."""
