"""What K-Prism costs, counted, and the page that says so in step with the benchmark's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.kprism_speed import multiply_adds

ROOT = Path(__file__).resolve().parents[2]


def test_multiply_adds_of_the_paper_s_network() -> None:
    counted = multiply_adds()
    assert counted["experts, in a loop"] == pytest.approx(56.9, abs=0.05)
    assert counted["experts, fused"] < 4.0
    saved = counted["experts, in a loop"] - counted["experts, fused"] + 26  # the pyramid ran three times
    assert counted["encode"] + counted["decode a class"] + saved == pytest.approx(186, abs=1)


def test_the_page_shows_the_file() -> None:
    result = json.loads((ROOT / "docs" / "results" / "kprism_speed.json").read_text())
    text = (ROOT / "docs" / "kprism.md").read_text()
    section = text.split("\n## Cost\n")[1].split("\n## ")[0]
    for name, value in result["encode and decode"]["ms"].items():
        assert f"| {name} | {value} |" in section
    for row in result["experts"]:
        assert f"| {row['queries']} | {row['ms']['loop']} | {row['ms']['fused']} | {row['ratio']} |" in section
    assert result["experts"][0]["ratio"] >= 3
    one, three, six = result["training memory"]["MiB"].values()
    assert f"{one} MiB with 1 round, {three} with 3, {six} with 6" in section
    counted = result["billions of multiply-adds, utnet at 512"]
    assert f"encoding {counted['encode']}, a class\non the encoded image {counted['decode a class']}" in section
    assert f"{result['size']} x {result['size']}" in section
