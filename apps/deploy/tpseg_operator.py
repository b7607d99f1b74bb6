"""TP-Seg as an operator of MONAI Deploy: selected series in, results of `tpseg run` out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.deploy.core import ConditionType, Fragment, Operator, OperatorSpec

from monai_tpseg.deploy_app.selected import SelectedSeries, segment_selected
from monai_tpseg.results.codes import Status
from monai_tpseg.studies import Model
from monai_tpseg.words import count


class TPSegOperator(Operator):
    """Segments each selected series for the task that its selection is called.

    Masks, DICOM segmentations and structured reports are written as `tpseg run` writes them.

    Named input:
        study_selected_series_list: list of StudySelectedSeries, as DICOMSeriesSelectorOperator emits it.

    Named output:
        case_results: list of `monai_tpseg.deploy_app.selected.CaseResult`; a receiver is optional.

    Args:
        fragment: the application.
        model: loaded once.
        output_folder: of the results.
    """

    def __init__(self, fragment: Fragment, *args: Any, model: Model, output_folder: Path, **kwargs: Any) -> None:
        self.model, self.output_folder = model, output_folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("study_selected_series_list")
        spec.output("case_results").condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:  # noqa: ARG002
        """Segment what was selected.

        Raises:
            RuntimeError: a case was not segmented; those that were are written.
        """
        studies = op_input.receive("study_selected_series_list") or []
        selected = [
            SelectedSeries(series.selection_name, tuple(map(_file_of, series.series.get_sop_instances())))
            for study in studies
            for series in study.selected_series
        ]
        results = segment_selected(self.model, selected, self.output_folder)
        bad = [one for one in results if one.status in (Status.FAILED, Status.SKIPPED)]
        if bad:
            first = f"{bad[0].code}: {bad[0].next_action}"
            raise RuntimeError(f"{len(bad)} of {count(len(results), 'case')} not segmented; the first, {first}.")
        op_output.emit(results, "case_results")


def _file_of(instance: Any) -> Path:
    """The file that the loader has read an instance from."""
    return Path(instance.get_native_sop_instance().filename)
