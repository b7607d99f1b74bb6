"""Writes `large_files.yml` of both bundles, as MONAI's model zoo wants it, from the starter weights of the package.

    python -m benchmarks.large_files                         nothing hosts the files: `url` stays empty
    python -m benchmarks.large_files --url https://HOST/DIR  DIR holds the files under their own names

`python -m monai.bundle download_large_files --bundle_path BUNDLE` then puts them into the bundle's `models`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from monai_tpseg.files import file_sha256, write_atomically
from monai_tpseg.weights import DEFAULTS, find

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = {"tpseg": "tpseg_lesion_segmentation", "kprism": "kprism_universal_segmentation"}
_HEAD = """\
# The starter weights, which are part of the package monai_tpseg (monai_tpseg/weights/files) and run where `models` is
# empty. An empty url: hosted nowhere. Written by benchmarks/large_files.py.
"""


def content(network: str, url: str = "") -> str:
    """Return the file of the bundle of `network`; `url` is the folder that hosts the weights, or empty."""
    weights = find(DEFAULTS[network]).there()
    listed = [
        {
            "path": f"models/model{file.suffix}",
            "url": f"{url.rstrip('/')}/{file.name}" if url else "",
            "hash_val": file_sha256(file),
            "hash_type": "sha256",
        }
        for file in (weights, weights.with_suffix(".json"))
    ]
    return _HEAD + yaml.safe_dump({"large_files": listed}, sort_keys=False)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="", metavar="URL", help="of the folder that hosts the files (none)")
    url = parser.parse_args().url
    for network, bundle in BUNDLES.items():
        write_atomically(ROOT / "bundles" / bundle / "large_files.yml", content(network, url).encode())


if __name__ == "__main__":
    main()
