"""Decoding with GDCM in a child process: it aborts on some damaged streams, but reads unusual ones that others reject.

This file is also the script of the child process, which imports only pydicom and starts much faster than with torch.
Objects are exchanged as DICOM with only the attributes of their pixels, each preceded by its length.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

__all__ = ["decompress_isolated"]

_PIXEL_MODULE = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
_LENGTH = 8  # bytes
_SECONDS = 120.0  # per call; JPEG-LS takes about 10 ms per megapixel


def decompress_isolated(datasets: Sequence[Any]) -> None:
    """Decompress the pixels of `datasets` in place, all in one child process.

    Args:
        datasets: objects in a transfer syntax that pydicom decodes with GDCM.

    Raises:
        RuntimeError: the child process ended without an answer because a stream is damaged.
        subprocess.TimeoutExpired: decoding took more than two minutes.
    """
    sent = b"".join(_pack(_pixels_only(dataset)) for dataset in datasets)
    child = [sys.executable, "-I", __file__]
    done = subprocess.run(child, input=sent, capture_output=True, timeout=_SECONDS, check=False)
    answers = list(_unpack(BytesIO(done.stdout)))
    if done.returncode or len(answers) != len(datasets):
        raise RuntimeError(f"the decoder ended with status {done.returncode}")
    for dataset, answer in zip(datasets, answers, strict=True):
        for keyword in _PIXEL_MODULE:
            if keyword in answer:
                setattr(dataset, keyword, answer[keyword].value)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset["PixelData"].is_undefined_length = False


def _pixels_only(dataset: Any) -> Any:
    small = Dataset()
    small.file_meta = FileMetaDataset()
    small.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    small.SOPClassUID, small.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    for keyword in _PIXEL_MODULE:
        if keyword in dataset:
            setattr(small, keyword, dataset[keyword].value)
    small["PixelData"].is_undefined_length = small.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian
    return small


def _pack(dataset: Any) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return len(file.getvalue()).to_bytes(_LENGTH, "little") + file.getvalue()


def _unpack(stream: BinaryIO) -> Iterator[Any]:
    while len(head := stream.read(_LENGTH)) == _LENGTH:
        yield pydicom.dcmread(BytesIO(stream.read(int.from_bytes(head, "little"))))


def _child() -> None:
    for dataset in _unpack(sys.stdin.buffer):
        dataset.decompress(decoding_plugin="gdcm", generate_instance_uid=False)
        sys.stdout.buffer.write(_pack(_pixels_only(dataset)))


if __name__ == "__main__":
    _child()
