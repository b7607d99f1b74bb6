"""TP-Seg in a MONAI Deploy application: loader, series selector, TP-Seg; see docs/deploy-app.md."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from tpseg_operator import TPSegOperator

from monai_tpseg.deploy_app.selection import read_selection
from monai_tpseg.studies import Model

SELECTION = Path(__file__).with_name("selection.json")


class TPSegApp(Application):
    """DICOM in, masks, DICOM segmentations and structured reports out.

    `--model` names weights; the starter weights by default. The environment variable TPSEG_SELECTION names a file of
    selection rules instead of the one beside this file.
    """

    def compose(self) -> None:
        """Connect the operators."""
        context = Application.init_app_context(self.argv)
        if "log_level" not in context.args:
            logging.getLogger().setLevel(logging.WARNING)  # below that, the selector logs values of DICOM headers
        model = Model(context.args.get("model"))
        rules = read_selection(os.environ.get("TPSEG_SELECTION", SELECTION), model.info.tasks)
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=rules, all_matched=True, name="selector")
        tpseg = TPSegOperator(self, model=model, output_folder=Path(context.output_path), name="tpseg")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, tpseg, {("study_selected_series_list", "study_selected_series_list")})


if __name__ == "__main__":
    TPSegApp().run()
