"""Loaded cases between MONAI's own transforms, inferers and writers: grids, spacing, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import (
    CacheNTransDataset,
    DataLoader,
    Dataset,
    MetaTensor,
    PersistentDataset,
    SmartCacheDataset,
    decollate_batch,
)
from monai.engines import EnsembleEvaluator
from monai.inferers import SaliencyInferer, SliceInferer
from monai.networks.nets import UNet
from monai.transforms import (
    AsDiscreted,
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Flipd,
    Invertd,
    MeanEnsembled,
    Orientationd,
    Resized,
    Rotate90d,
    SaveImaged,
    Spacingd,
)
from PIL import Image
from torch import nn

from monai_tpseg.inferers import TaskInferer
from monai_tpseg.io import meta_keys
from monai_tpseg.io.grid_meta import GridMeta
from monai_tpseg.keys import IMAGE, PRED, TASK, TASK_NAME
from monai_tpseg.networks import bind_task, tpseg_hiera_demo
from monai_tpseg.transforms import LoadMedicalImaged, NormalizeByModalityd, PictureWriter, TaskToIndexd

AFFINE = np.array([[-0.8, 0, 0, 50], [0, 0.9, 0, -40], [0, 0, 3.0, 7], [0, 0, 0, 1.0]])
SHAPE = (40, 30, 7)  # x, y, z


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volumes") / "ct.nii.gz"
    values = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return path


def loaded(path: Path, *more: Any) -> dict[str, Any]:
    case: dict[str, Any] = Compose([LoadMedicalImaged(), *more])({IMAGE: str(path)})
    return case


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Spacingd(IMAGE, pixdim=(1.8, 0.4, 1.5)), (1.8, 0.4, 1.5)),
        (Flipd(IMAGE, 0), (0.9, 0.8, 3.0)),
        (Rotate90d(IMAGE, spatial_axes=(0, 1)), (0.8, 0.9, 3.0)),
        (Orientationd(IMAGE, axcodes="RAS"), (0.8, 0.9, 3.0)),
        (Resized(IMAGE, spatial_size=(60, 20, 7)), (0.45, 1.6, 3.0)),  # 30 rows become 60, 40 columns 20
    ],
    ids=lambda value: type(value).__name__,
)
def test_spacing_follows_the_grid(volume: Path, step: Any, expected: tuple[float, ...]) -> None:
    image = loaded(volume, step)[IMAGE]
    np.testing.assert_allclose(image.meta[meta_keys.SPACING], expected, rtol=1e-5)
    np.testing.assert_allclose(image.pixdim, expected, rtol=1e-5)
    for same in (copy.deepcopy(image), pickle.loads(pickle.dumps(image)), image.clone()):
        assert isinstance(same.meta, GridMeta)
        np.testing.assert_allclose(same.meta[meta_keys.SPACING], expected, rtol=1e-5)
        same.affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
        np.testing.assert_allclose(same.meta[meta_keys.SPACING], (2, 3, 4))
    np.testing.assert_allclose(image.meta[meta_keys.SPACING], expected, rtol=1e-5)


def test_spacing_of_a_picture_follows_too() -> None:
    """Its affine is in pixels: 0.5 mm between rows and 0.2 mm between columns come beside it."""
    meta = GridMeta(
        {
            meta_keys.KIND: "picture",
            meta_keys.SPACING: np.array([0.5, 0.2]),
            meta_keys.LOADED_SPACING: np.array([0.5, 0.2]),
        }
    )
    image = MetaTensor(torch.rand(3, 30, 40), affine=torch.eye(4), meta=meta)
    turned = Compose([Resized(IMAGE, spatial_size=(60, 20)), Rotate90d(IMAGE)])({IMAGE: image})[IMAGE]
    np.testing.assert_allclose(turned.meta[meta_keys.SPACING], (0.4, 0.25), rtol=1e-6)


def test_invertd_brings_the_spacing_back(volume: Path) -> None:
    steps = Compose([LoadMedicalImaged(), Spacingd(IMAGE, pixdim=(1.8, 1.6, 3.0))])
    batch = next(iter(DataLoader(Dataset([{IMAGE: str(volume)}], steps), batch_size=1)))
    batch[PRED] = batch[IMAGE][:, :1]
    case = decollate_batch(batch)[0]
    np.testing.assert_allclose(case[IMAGE].meta[meta_keys.SPACING], (1.8, 1.6, 3.0), rtol=1e-5)
    found = Invertd(PRED, transform=steps, orig_keys=IMAGE)(case)[PRED]
    assert found.shape[1:] == (30, 40, 7)
    np.testing.assert_allclose(found.meta[meta_keys.SPACING], (0.9, 0.8, 3.0), rtol=1e-5)


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    net = tpseg_hiera_demo(num_tasks=8).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return {
        "tpseg": bind_task(net, "lung_infection"),
        "fast": bind_task(net.optimize_for_inference(), "lung_infection"),
        "unet": UNet(2, 3, 1, (4, 8), (2,)).eval(),
    }


@torch.no_grad()
@pytest.mark.parametrize("resample", [False, True], ids=["as loaded", "on the source"])
@pytest.mark.parametrize("name", ["tpseg", "fast", "unet"])
def test_invert_and_save_as_with_a_network_of_monai(volume: Path, tmp_path: Path, name: str, resample: bool) -> None:
    steps = Compose(
        [
            LoadMedicalImaged(),
            TaskToIndexd(),
            NormalizeByModalityd(),
            Spacingd(IMAGE, pixdim=(1.0, 1.0, 3.0)),
            Resized(IMAGE, spatial_size=(32, 64, 7)),
        ]
    )
    data = Dataset([{IMAGE: str(volume), TASK: "lung_infection"}], steps)
    batch = next(iter(DataLoader(data, batch_size=1)))
    batch[PRED] = SliceInferer(roi_size=(32, 64), spatial_dim=2)(batch[IMAGE], networks()[name])
    assert isinstance(batch[PRED], MetaTensor)
    middle = float(batch[PRED].median())  # new weights: any cut gives a mask
    options: dict[str, Any] = {"output_dir": tmp_path, "output_postfix": "mask", "separate_folder": False}
    save = SaveImaged(PRED, resample=resample, print_log=False, **options)
    after = Compose([Invertd(PRED, transform=steps, orig_keys=IMAGE), AsDiscreted(PRED, threshold=middle), save])
    found = after(decollate_batch(batch)[0])[PRED]
    file = nib.load(tmp_path / "ct_mask.nii.gz")
    assert found.shape == (1, 30, 40, 7)
    np.testing.assert_allclose(found.affine, loaded(volume)[IMAGE].affine, atol=1e-5)
    expected = found[0].numpy()
    if resample:  # rows run along y, columns along x from the patient's right
        np.testing.assert_allclose(file.affine, AFFINE, atol=1e-5)
        expected = expected.transpose(1, 0, 2)[:, ::-1]
    else:
        np.testing.assert_allclose(file.affine, found.affine, atol=1e-5)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(file.get_fdata(), expected)


@torch.no_grad()
def test_a_picture_is_saved_as_it_is_looked_at(tmp_path: Path) -> None:
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[3:9, 20:50] = 255  # a bar that lies
    Image.fromarray(pixels).save(tmp_path / "bar.png")
    batch = next(iter(DataLoader(Dataset([{IMAGE: str(tmp_path / "bar.png")}], LoadMedicalImaged()), batch_size=1)))

    class Bright(nn.Module):
        def forward(self, image: torch.Tensor, task: Any) -> torch.Tensor:
            return image[:, :1] - 128

    batch[PRED] = TaskInferer((64, 64), window="sliding")(batch[IMAGE], Bright(), task=0)
    save = SaveImaged(
        PRED,
        output_dir=tmp_path,
        output_postfix="mask",
        output_ext=".png",
        output_dtype=np.uint8,
        scale=255,
        resample=True,
        separate_folder=False,
        writer=PictureWriter,
        print_log=False,
    )
    Compose([AsDiscreted(PRED, threshold=0.5), save])(decollate_batch(batch)[0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "bar_mask.png")), pixels[..., 0])


def test_normalising_leaves_rows_where_task_to_index_ran(volume: Path) -> None:
    case = Compose([LoadMedicalImaged(), TaskToIndexd(), NormalizeByModalityd()])(
        {IMAGE: str(volume), TASK: "brain_tumor"}
    )
    assert torch.equal(case[TASK], torch.tensor(1))
    assert case[TASK_NAME] == "brain_tumor"
    other = Compose([LoadMedicalImaged(), NormalizeByModalityd(), TaskToIndexd()])(
        {IMAGE: str(volume), TASK: "brain_tumor"}
    )
    assert torch.equal(case[IMAGE], other[IMAGE])
    assert torch.equal(other[TASK], torch.tensor(1))
    del case[TASK_NAME]
    with pytest.raises(ValueError, match=r"got tensor\(1\); name its task, or keep the 'task_name' that TaskToIndexd"):
        NormalizeByModalityd()(case)


def test_normalising_keeps_what_came_before_it(tmp_path: Path) -> None:
    """Air around a head is hidden from the percentiles; what turned and cut the image before can still be undone."""
    values = np.zeros((40, 30, 5), np.float32)
    values[8:30, 6:20] = np.random.default_rng(0).normal(500, 50, (22, 14, 5))
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "mr.nii.gz")
    before = [LoadMedicalImaged(), Rotate90d(IMAGE), CropForegroundd(IMAGE, IMAGE, margin=4)]
    steps = Compose([*before, NormalizeByModalityd()])
    data: dict[str, Any] = {IMAGE: str(tmp_path / "mr.nii.gz"), TASK: "brain_tumor"}
    case, cut = steps(data), Compose(before)(data)[IMAGE]
    assert [one["class"] for one in case[IMAGE].applied_operations] == ["Rotate90", "CropForeground"]
    case[PRED] = MetaTensor((cut.as_tensor()[:1] > 0).float()).copy_meta_from(case[IMAGE])
    found = Invertd(PRED, transform=steps, orig_keys=IMAGE)(case)[PRED]
    np.testing.assert_array_equal(found.numpy(), loaded(tmp_path / "mr.nii.gz")[IMAGE][:1].numpy() > 0)
    spaced = Spacingd(IMAGE, pixdim=(0.5, 0.5, 3.0))(case)[IMAGE]
    np.testing.assert_allclose(spaced.meta[meta_keys.SPACING], (0.5, 0.5, 3.0), rtol=1e-5)


def test_a_volume_is_no_picture(volume: Path, tmp_path: Path) -> None:
    save = SaveImaged(IMAGE, output_dir=tmp_path, output_ext=".png", writer=PictureWriter, print_log=False)
    with pytest.raises(RuntimeError, match="SaveImage"):
        save(loaded(volume))
    with pytest.raises(ValueError, match=r"got shape \(3, 30, 40, 7\); write volumes as \.nii\.gz"):
        PictureWriter().set_data_array(loaded(volume)[IMAGE], channel_dim=0)
    assert not list(tmp_path.rglob("*.png"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for n in range(3):
        Image.fromarray(rng.integers(0, 255, (50 + n, 70, 3)).astype(np.uint8)).save(folder / f"{n}.png")
    return [{IMAGE: str(path), TASK: "skin_lesion"} for path in sorted(folder.glob("*.png"))]


def picture_steps() -> Compose:
    steps = [LoadMedicalImaged(), EnsureChannelFirstd(IMAGE), TaskToIndexd(), NormalizeByModalityd()]
    return Compose([*steps, Resized(IMAGE, spatial_size=(64, 64))])


def test_datasets_that_keep_what_they_have_read(pictures: list[dict[str, str]], tmp_path: Path) -> None:
    steps = picture_steps()
    expected = [steps(dict(one)) for one in pictures]
    kept = PersistentDataset(pictures, steps, tmp_path / "kept", track_meta=True, weights_only=False)
    smart = SmartCacheDataset(pictures, steps, replace_rate=0.5, cache_num=2, shuffle=False, progress=False)
    found = [*kept, *kept, *smart]  # made, then from disc; then the first two
    for one, right in zip(found, [*expected, *expected, *expected[:2]], strict=True):
        assert torch.equal(one[IMAGE], right[IMAGE])
        assert isinstance(one[IMAGE].meta, GridMeta)
        assert one[IMAGE].meta.keys() == right[IMAGE].meta.keys()
    plain = Compose([step for step in steps.transforms if not isinstance(step, EnsureChannelFirstd)])
    cut = CacheNTransDataset(pictures, plain, cache_n_trans=1, cache_dir=tmp_path / "cut")
    assert torch.equal(cut[0][IMAGE], expected[0][IMAGE])
    with pytest.raises(RuntimeError, match="NormalizeByModalityd") as error:
        assert cut[0]  # from disc
    assert "PersistentDataset needs track_meta=True and weights_only=False" in str(error.value.__cause__)


def test_several_networks_and_the_pictures_they_leave(pictures: list[dict[str, str]], tmp_path: Path) -> None:
    steps, nets = picture_steps(), [networks()["tpseg"], networks()["fast"]]
    names = ["first", "second"]
    save = SaveImaged(
        PRED, output_dir=tmp_path, output_ext=".png", output_dtype=np.uint8, scale=255, writer=PictureWriter,
        separate_folder=False, print_log=False,
    )  # fmt: skip
    after = [MeanEnsembled(names, PRED), Invertd(PRED, transform=steps, orig_keys=IMAGE)]
    loader = DataLoader(Dataset(pictures, steps), batch_size=2)
    last = Compose([*after, AsDiscreted(PRED, threshold=0), save])
    EnsembleEvaluator(torch.device("cpu"), loader, nets, names, postprocessing=last).run()
    sizes = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes == {f"{n}_trans.png": (70, 50 + n) for n in range(3)}


def test_where_a_network_looks(pictures: list[dict[str, str]]) -> None:
    image = picture_steps()(pictures[0])[IMAGE][None]
    seen = SaliencyInferer("GradCAM", "net.decoder.pgtds.0.encode.0", class_idx=0)(image, networks()["tpseg"])
    assert seen.shape == (1, 1, 64, 64)
    assert seen.isfinite().all()
    assert seen.max() > seen.min()


def test_a_picture_as_nifti(pictures: list[dict[str, str]], tmp_path: Path) -> None:
    """As MONAI writes those that its own reader has read: with `resample` alone."""
    case = Compose([LoadMedicalImaged()])(pictures[0])
    save = SaveImaged(
        IMAGE, output_dir=tmp_path, output_ext=".nii.gz", resample=True, separate_folder=False, print_log=False
    )
    save(case)
    written = nib.load(next(tmp_path.glob("*.nii.gz"))).get_fdata()
    np.testing.assert_allclose(np.moveaxis(written.squeeze(), -1, 0), case[IMAGE].numpy())
