"""Rules: the first one that fits decides, and a file that cannot be used says which rule and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.pacs.monitor import Health, metrics
from monai_tpseg.pacs.remote_nodes import DicomPeer, WebPeer, peer_from
from monai_tpseg.pacs.rules import Decision, RulesError, SeriesFacts, decide, read_rules

GOOD = """\
rules:
  - {modality: CT, series_description: ["*scout*", "*topo*"], ignore: true}
  - {modality: CT, body_part: [CHEST, thorax], task: lung_infection}
  - {modality: US, station: "US_?", tasks: [thyroid_nodule, breast_lesion]}
  - {ae_title: RESEARCH, series_description: "*", ignore: true}
"""


def test_the_first_rule_that_fits_decides(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(GOOD)
    rules = read_rules(tmp_path / "rules.yaml", TASK_NAMES)
    cases = {
        SeriesFacts("CT", "CHEST", "Scout AP"): Decision(1, (), True),
        SeriesFacts("ct", "Thorax", "lung 1.0"): Decision(2, ("lung_infection",)),
        SeriesFacts("CT", "ABDOMEN", "liver"): Decision(0),
        SeriesFacts("CT", "", "lung"): Decision(0),
        SeriesFacts("US", station="US_2"): Decision(3, ("thyroid_nodule", "breast_lesion")),
        SeriesFacts("US", station="US_22"): Decision(0),
        SeriesFacts("MR", ae_title="research"): Decision(4, (), True),
    }
    assert {facts: decide(rules, facts) for facts in cases} == cases


def test_facts_come_from_the_header() -> None:
    header = Dataset()
    header.Modality, header.BodyPartExamined, header.StationName = "CT", "CHEST ", "A"
    assert SeriesFacts.of(header, " PACS ") == SeriesFacts("CT", "CHEST", "", "A", "PACS")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "not YAML"),
        ("[]", "one list under 'rules:'"),
        ("rules: []", "one list under 'rules:'"),
        ("rules: [CT]", "Rule 1 is not a mapping"),
        ("rules: [{task: wet_amd}]", "Rule 1 has no condition"),
        ("rules: [{modality: CT, tsk: wet_amd}]", "unknown key 'tsk'"),
        ("rules: [{modality: CT}]", "must have one of task, tasks or 'ignore: true'"),
        ("rules: [{modality: CT, task: wet_amd, ignore: true}]", "must have one of"),
        ("rules: [{modality: CT, ignore: false}]", "ignore must be true"),
        ("rules: [{modality: CT, task: lung_infecton}]", "did you mean lung_infection"),
        ("rules: [{modalty: CT, task: wet_amd}]", "did you mean modality"),
        ("rules: [{modality: CT, task: liver}]", "do not know 'liver'; choose one of wet_amd"),
        ("rules: [{modality: 1, task: wet_amd}]", "modality must be a string"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(RulesError, match=re.escape(said)):
        read_rules(tmp_path / "rules.yaml", TASK_NAMES)
    with pytest.raises(RulesError, match="cannot be read"):
        read_rules(tmp_path / "nothing.yaml", TASK_NAMES)


def test_peers() -> None:
    peer = peer_from("ORTHANC@[::1]:4242", "TPSEG")
    assert isinstance(peer, DicomPeer)
    assert (peer.title, peer.host, peer.port) == ("ORTHANC", "[::1]", 4242)
    web = peer_from("https://pacs/dicom-web/", "TPSEG")
    assert isinstance(web, WebPeer)
    assert web.url == "https://pacs/dicom-web"
    for wrong in ("ORTHANC", "ORTHANC@host", "A@host:0", "A@host:99999", "ABCDEFGHIJKLMNOPQ@host:1"):
        with pytest.raises(ValueError, match=r"AE title|AET@HOST:PORT"):
            peer_from(wrong, "TPSEG")


def test_metrics_are_lines_of_prometheus() -> None:
    text = metrics(Health(True, {"done": 2}, {"cases_ok": 3, "studies_E_FORMAT": 1}, 5, 10, 0.0))
    assert 'tpseg_studies{state="done"} 2\n' in text
    assert "tpseg_cases_ok_total 3\n" in text
    assert "tpseg_studies_e_format_total 1\n" in text
    assert "tpseg_up 1\n" in text
    assert "tpseg_up 0\n" in metrics(Health(True, {}, {}, 11, 10, 0.0))
