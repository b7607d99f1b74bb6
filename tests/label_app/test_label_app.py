"""Answers for MONAI Label: masks on the grid of their image, clicks where a viewer has put them, lists, choice."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.annotate.session import Session
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.label_app.answers import answer_clicks, answer_task
from monai_tpseg.label_app.choose import worst_first
from monai_tpseg.label_app.corrected import write_corrected
from monai_tpseg.label_app.mask_format import in_asked_format
from monai_tpseg.label_app.models import Models
from monai_tpseg.label_app.places import places_of
from monai_tpseg.testing.phantoms import make_volume, write_nifti
from monai_tpseg.training import TrainOptions
from monai_tpseg.training.lists import write_lists
from monai_tpseg.transforms.transfer import load_case
from tests.annotate.trained import SIZE, TASK, write_trained
from tests.studies.conftest import write_weights


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT whose first axis runs to the left and whose axes are in an unusual order."""
    path = tmp_path_factory.mktemp("volume") / "a.nii.gz"
    write_nifti(make_volume(TASK, 300, (SIZE, SIZE, 8)), path)
    source = nibabel.load(path)
    turned = nibabel.as_closest_canonical(source).slicer[::-1].as_reoriented([[2, 1], [0, 1], [1, -1]])
    nibabel.save(turned, path.with_name("turned.nii.gz"))
    return path.with_name("turned.nii.gz")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PromptModel:
    return PromptModel(write_trained(tmp_path_factory.mktemp("kprism") / "kprism.pt"), "cpu")


def test_points_of_a_viewer_are_where_the_same_voxel_is_loaded(volume: Path) -> None:
    image = load_case(volume)
    source = np.asarray(nibabel.load(volume).dataobj)
    rng = np.random.default_rng(0)
    points = rng.integers(0, source.shape, (40, 3))
    for (i, j, k), (row, column, index) in zip(points, places_of(points.tolist(), image.meta), strict=True):
        assert image[0, round(row), round(column), index] == pytest.approx(float(source[i, j, k]))


def test_points_of_a_picture_are_x_and_y(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((30, 50), np.uint8)).save(tmp_path / "a.png")
    meta = load_case(tmp_path / "a.png").meta
    assert places_of([[40, 7, 0], [3, 4]], meta) == [(7.0, 40.0, 0), (4.0, 3.0, 0)]
    with pytest.raises(ValueError, match="A point is 2 or 3 numbers"):
        places_of([[1.0]], meta)
    with pytest.raises(ValueError, match="A point is 2 or 3 numbers"):
        places_of([[1.0, float("nan")]], meta)


def test_a_task_is_answered_with_a_mask_on_the_grid(tmp_path: Path, volume: Path) -> None:
    models = Models(tmp_path, str(write_weights(tmp_path / "model.pt")), device="cpu")
    path, said = answer_task(models.tpseg(), volume, TASK, {}, tmp_path)
    mask, source = nibabel.load(path), nibabel.load(volume)
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine)
    assert said["label_names"] == {"lung infection": 1}
    assert said["expected_dice"] is None  # nothing was fitted for these weights
    assert json.loads(json.dumps(said)) == said


def _read_nrrd(path: Path) -> tuple[dict[str, str], np.ndarray]:
    """Read a file as nrrd-js does, which OHIF uses: fields, then raw voxels, x first."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    assert fields["encoding"] == "raw"
    kinds = {"unsigned char": np.uint8, "uint8": np.uint8, "unsigned short": np.uint16, "uint16": np.uint16}
    shape = [int(size) for size in fields["sizes"].split()]
    return fields, np.frombuffer(body, kinds[fields["type"]]).reshape(shape, order="F")


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_mask_is_given_in_the_format_that_ohif_asks_for(
    tmp_path: Path, volume: Path, trained: PromptModel, kind: str
) -> None:
    i, j, k = (int(x) for x in np.argwhere(np.asarray(nibabel.load(volume).dataobj) > -700)[0])
    points = {"foreground": [[i, j, k]], "background": []}
    (tmp_path / "plain").mkdir()
    (tmp_path / "nrrd").mkdir()
    plain, _ = answer_clicks(trained, volume, TASK, points, tmp_path / "plain")
    asked = {"result_extension": ".nrrd", "result_dtype": kind, "result_compress": False}
    path, _ = answer_clicks(trained, volume, TASK, {**points, **asked}, tmp_path / "nrrd")
    fields, voxels = _read_nrrd(path)
    expected = nibabel.load(plain)
    np.testing.assert_array_equal(voxels, np.asarray(expected.dataobj))
    assert voxels.dtype == kind
    assert set(np.unique(voxels)) == {0, 1}
    axes = np.array([[float(x) for x in axis.strip("()").split(",")] for axis in fields["space directions"].split()]).T
    turn = np.diag([-1.0, -1.0, 1.0]) if fields["space"] == "left-posterior-superior" else np.eye(3)
    np.testing.assert_allclose(turn @ axes, expected.affine[:3, :3], atol=1e-4)


@pytest.mark.parametrize(("key", "value"), [("result_extension", ".mha"), ("result_dtype", "float64")])
def test_a_format_that_no_mask_has_is_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{key} '{value}'; choose one of"):
        in_asked_format(tmp_path / "mask.nii.gz", {"result_extension": ".nrrd", key: value})


def test_clicks_mark_what_the_same_session_marks(tmp_path: Path, volume: Path, trained: PromptModel) -> None:
    image = load_case(volume)
    session = Session(volume, trained, TASK)
    i, j, k = (int(x) for x in np.argwhere(np.asarray(nibabel.load(volume).dataobj) > -700)[0])
    ((row, column, index),) = places_of([[i, j, k]], image.meta)
    session.click(row, column, True, index)
    path, said = answer_clicks(trained, volume, TASK, {"foreground": [[i, j, k]]}, tmp_path)
    mask = nibabel.load(path)
    assert mask.shape == nibabel.load(volume).shape
    assert said["slices"] == [index]
    assert said["voxels"] == int(session.volume_mask().sum()) == int(np.asarray(mask.dataobj).sum())
    assert np.asarray(mask.dataobj)[i, j, k] == session.mask(index)[round(row), round(column)]
    (tmp_path / "more").mkdir()
    _, more = answer_clicks(trained, volume, TASK, {"foreground": [[i, j, k]], "propagate": True}, tmp_path / "more")
    assert set(more["slices"]) >= {index}
    with pytest.raises(ValueError, match="No point inside"):
        answer_clicks(trained, volume, TASK, {"background": [[i, j, k]]}, tmp_path)


def test_saved_labels_become_the_lists_of_a_training(tmp_path: Path) -> None:
    entries = []
    for seed in (1, 2, 3):
        write_nifti(make_volume(TASK, seed, (32, 32, 6)), tmp_path / f"v{seed}.nii.gz")
        named = [{"name": "lung infection", "idx": 1}] if seed < 3 else [{"name": "spleen", "idx": 1}]
        image, label = tmp_path / f"v{seed}.nii.gz", tmp_path / f"v{seed}_label.nii.gz"
        entries.append((str(image), str(label), {"params": {"label_info": named}}))
    assert write_corrected(entries, TASK, tmp_path / "labels.json") == 2
    lists = write_lists(TrainOptions(str(tmp_path / "labels.json")), tmp_path / "run", {})
    assert len(lists.validation) == 1
    assert lists.tasks == (TASK,)
    assert len(lists.training) > 1  # slices of the other one
    with pytest.raises(ValueError, match="1 of the saved labels show"):
        write_corrected(entries[:1], TASK, tmp_path / "few.json")
    two = [{"name": "lung infection", "idx": 1}, {"name": "lung", "idx": 2}]
    with pytest.raises(ValueError, match="save 'lung infection' alone"):
        write_corrected([(*entries[0][:2], {"label_info": two})], TASK, tmp_path / "two.json")
    assert not (tmp_path / "two.json").exists()


def test_the_worst_comes_first_and_nothing_is_computed_twice() -> None:
    values = {"a": 0.8, "b": 0.3, "c": None, "d": 0.5}
    asked: list[str] = []

    def expect(image: str) -> float | None:
        asked.append(image)
        return values[image]

    order, found = worst_first(list("abcd"), {"a": 0.8}, expect, 2)
    assert (order, asked) == (["b", "a", "c", "d"], ["b", "c"])
    order, found = worst_first(list("abcd"), found, expect, 9)
    assert (order, asked) == (["b", "d", "a", "c"], ["b", "c", "c", "d"])


def test_published_weights_are_taken_by_the_next_request(tmp_path: Path) -> None:
    first = write_weights(tmp_path / "first.pt")
    models, other = Models(tmp_path, str(first), device="cpu"), Models(tmp_path, str(first), device="cpu")
    before = models.tpseg().info.sha256
    (tmp_path / "run").mkdir()
    other.publish(write_weights(tmp_path / "run" / "model.pt", seed=1))
    assert models.tpseg().info.sha256 != before
    assert models.tpseg() is models.tpseg()
