"""MONAI Label 0.8.5 imports `pydicom_seg`, which fails under pydicom 3; its successor has another name."""

from pydicom_seg_rb import MultiClassReader, MultiClassWriter, template

__all__ = ["MultiClassReader", "MultiClassWriter", "template"]
