"""Small trees in the layouts of the published data sets, filled with phantoms: nothing of the data sets themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.testing.phantoms import Phantom, make_phantom, write_png

SIZE = 32


def phantom(task: str, seed: int) -> Phantom:
    """A picture of a task and its mask, 32 x 32."""
    return make_phantom(task, seed, SIZE)


def save(array: NDArray[np.uint8] | NDArray[np.bool_], path: Path) -> Path:
    """Write a picture in the format of its suffix; JPEG as good as it gets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        return write_png(array, path)
    Image.fromarray(array if array.dtype == np.uint8 else array.astype(np.uint8) * 255).save(path, quality=100)
    return path


def pairs(folder: Path, task: str, names: dict[str, str], start: int = 0) -> None:
    """Write pictures and masks: name of the picture below the folder -> that of its mask."""
    for seed, (image, mask) in enumerate(names.items(), start=start):
        made = phantom(task, seed)
        save(made.image, folder / image)
        save(made.label, folder / mask)


def amd_sd(folder: Path, published: bool = True) -> Path:
    """AMD-SD/images/PATIENT/PATIENT_NUMBER.png, scan and coloured lesions side by side; two lists of names."""
    colours = [(255, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0), (0, 0, 255)]
    lists: dict[str, list[str]] = {"training": [], "validation": []}
    for patient in range(1, 6):
        for number in range(3):
            made = phantom("wet_amd", 10 * patient + number)
            lesions = np.zeros((SIZE, SIZE, 3), np.uint8)
            if (patient, number) != (1, 0):
                lesions[made.label] = colours[(patient + number) % 5]
            lesions[0, 0] = 255  # white and cyan are no lesion
            lesions[0, 1] = (0, 255, 255)
            scan = np.repeat(made.image[..., None], 3, -1) if made.image.ndim == 2 else made.image
            name = f"{patient}/{patient}_{number}.png"
            save(np.concatenate([scan, lesions], 1), folder / "AMD-SD" / "images" / name)
            lists["validation" if patient == 5 else "training"].append(f"images/{name}")
    for section, names in lists.items() if published else ():
        (folder / "AMD-SD" / f"{section}.txt").write_text("\n".join(names) + "\n")
    return folder


def btd(folder: Path, cvind: bool = True) -> Path:
    """brainTumorDataPublic_*/NUMBER.mat with cjdata, columns first, and cvind.mat with a fold for each number."""
    archives = {
        "1-766": (1, 2, 3),
        "767-1532": (767, 768),
        "1533-2298": (1533, 2298),
        "2299-3064": (2299, 2300, 3064),
    }
    folds = np.zeros(3064)
    for position, (name, numbers) in enumerate(archives.items()):
        for number in numbers:
            made = phantom("brain_tumor", number)
            patient = "100360" if number in (2298, 2299) else f"MR{number:05d}"
            folds[number - 1] = 1 + position if patient != "100360" else 5
            path = folder / f"brainTumorDataPublic_{name}" / f"{number}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = made.image if made.image.ndim == 2 else made.image[..., 0]
            with h5py.File(path, "w") as file:
                data = file.create_group("cjdata")
                data["image"] = (grey.astype(np.int16) * 7).T
                data["tumorMask"] = made.label.astype(np.uint8).T
                data["PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
                data["label"] = np.array([[1.0]])
    if cvind:
        with h5py.File(folder / "cvind.mat", "w") as file:
            file["cvind"] = folds[None]
    return folder


def ebhi_seg(folder: Path) -> Path:
    """EBHI-SEG/Adenocarcinoma/image and label with the same names, whose first number is that of the case."""
    names = [f"GT{'xc' * (n == 4)}20{case:05d}-1-400-{n:03d}.png" for case in range(5) for n in range(1, 5)]
    root = folder / "EBHI-SEG"
    pairs(root / "Adenocarcinoma", "adenocarcinoma", {f"image/{name}": f"label/{name}" for name in names})
    pairs(root / "Polyp", "adenocarcinoma", {"image/GT2000001-1-400-009.png": "label/GT2000001-1-400-009.png"}, 90)
    return folder


def tnui_2021(folder: Path) -> Path:
    """thyroid_data/train, val and test, each with images and masks of the same names."""
    for part, count, start in (("train", 7, 0), ("val", 2, 20), ("test", 1, 30)):
        names = {f"images/{n:03d}.png": f"masks/{n:03d}.png" for n in range(count)}
        pairs(folder / "thyroid_data" / part, "thyroid_nodule", names, start)
    return folder


def polyp(folder: Path) -> Path:
    """TrainDataset/image and mask; TestDataset/SET/images and masks."""
    pairs(folder / "TrainDataset", "colon_polyp", {f"image/{n}.png": f"mask/{n}.png" for n in range(9)})
    sets = ("Kvasir", "CVC-ClinicDB", "CVC-300", "CVC-ColonDB", "ETIS-LaribPolypDB")
    for position, name in enumerate(sets):
        names = {f"images/{n}.png": f"masks/{n}.png" for n in range(1 + position)}
        pairs(folder / "TestDataset" / name, "colon_polyp", names, 20 + 10 * position)
    return folder


def polyp_raw(folder: Path) -> Path:
    """The five data sets, each with the folders and suffixes of its owner."""
    kvasir = {f"images/cju{n:02d}.jpg": f"masks/cju{n:02d}.jpg" for n in range(10)}
    pairs(folder / "Kvasir-SEG", "colon_polyp", kvasir)
    clinic = {f"Original/{n}.tif": f"Ground Truth/{n}.tif" for n in range(1, 11)}
    pairs(folder / "CVC-ClinicDB", "colon_polyp", clinic, 20)
    pairs(folder / "CVC-300", "colon_polyp", {"images/149.png": "masks/149.png"}, 40)
    pairs(folder / "CVC-ColonDB", "colon_polyp", {"images/1.png": "masks/1.png"}, 50)
    etis = {f"ETIS-LaribPolypDB/{n}.tif": f"Ground Truth/p{n}.tif" for n in (1, 2)}
    pairs(folder / "ETIS-LaribPolypDB", "colon_polyp", etis, 60)
    return folder


def covid_19_ct(folder: Path) -> Path:
    """tr_im and tr_mask, stacks of slices; rp_im and rp_msk; COVID-19-CT-Seg_20cases and Infection_Mask."""
    stacks = {"tr_im": "tr_mask", "rp_im/1": "rp_msk/1", "rp_im/2": "rp_msk/2"}
    stacks["COVID-19-CT-Seg_20cases/coronacases_001"] = "Infection_Mask/coronacases_001"
    for position, (image, mask) in enumerate(stacks.items()):
        made = [phantom("lung_infection", 10 * position + n) for n in range(4)]
        grey = [m.image if m.image.ndim == 2 else m.image[..., 0] for m in made]
        values = np.stack([g.T.astype(np.int16) * 6 - 1350 for g in grey], -1)  # (x, y, z), HU in the lung window
        labels = np.stack([m.label.T.astype(np.uint8) * (1 + n % 3) for n, m in enumerate(made)], -1)
        labels[..., 2] = 0
        for array, name in ((values, image), (labels, mask)):
            path = folder / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return folder


def busi(folder: Path) -> Path:
    """Dataset_BUSI_with_GT/benign, malignant and normal; one picture has two masks, normal ones an empty mask."""
    root = folder / "Dataset_BUSI_with_GT"
    for kind, count, start in (("benign", 5, 0), ("malignant", 3, 20)):
        names = {f"{kind} ({n}).png": f"{kind} ({n})_mask.png" for n in range(1, count + 1)}
        pairs(root / kind, "breast_lesion", names, start)
    second = np.zeros((SIZE, SIZE), bool)
    second[:3, :3] = True
    save(second, root / "benign" / "benign (4)_mask_1.png")
    for n in (1, 2):
        save(phantom("breast_lesion", 40 + n).image, root / "normal" / f"normal ({n}).png")
        save(np.zeros((SIZE, SIZE), bool), root / "normal" / f"normal ({n})_mask.png")
    return folder


def isic_2018(folder: Path) -> Path:
    """ISIC2018_Task1-2_*_Input and ISIC2018_Task1_*_GroundTruth for training, validation and test."""
    for part, count, start in (("Training", 8, 0), ("Validation", 2, 20), ("Test", 3, 30)):
        images, masks = f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth"
        names = [f"ISIC_{start + n:07d}" for n in range(count)]
        listed = {f"{images}/{name}.jpg": f"{masks}/{name}_segmentation.png" for name in names}
        pairs(folder, "skin_lesion", listed, start)
    return folder


TREES: dict[str, Callable[[Path], Path]] = {
    "amd-sd": amd_sd,
    "btd": btd,
    "ebhi-seg": ebhi_seg,
    "tnui-2021": tnui_2021,
    "polyp": polyp,
    "polyp-raw": polyp_raw,
    "covid-19-ct": covid_19_ct,
    "busi": busi,
    "isic-2018": isic_2018,
}
"""Name of a layout -> what makes a tree of it."""
