"""The layouts in which the paper's eight data sets are published, and that of one's own folders."""

from __future__ import annotations

from monai_tpseg.data.layouts.amd_sd import AMD_SD
from monai_tpseg.data.layouts.base import DatasetContent, Layout, LayoutError, Pair, Source
from monai_tpseg.data.layouts.btd import BTD
from monai_tpseg.data.layouts.covid import COVID_19_CT
from monai_tpseg.data.layouts.own import own_layout
from monai_tpseg.data.layouts.plain import BUSI, EBHI_SEG, ISIC_2018, TNUI_2021
from monai_tpseg.data.layouts.polyp import POLYP, POLYP_RAW

__all__ = ["LAYOUTS", "DatasetContent", "Layout", "LayoutError", "Pair", "Source", "own_layout"]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (AMD_SD, BTD, EBHI_SEG, TNUI_2021, POLYP, POLYP_RAW, COVID_19_CT, BUSI, ISIC_2018)
}
"""Name on the command line -> layout, in the order of the tasks."""
