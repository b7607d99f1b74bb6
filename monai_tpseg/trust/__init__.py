"""Trust estimates for masks: refusal of pictures outside the task, expected Dice, inner and outer contours."""

from monai_tpseg.trust.judge import Judge
from monai_tpseg.trust.observe import Observed, observe
from monai_tpseg.trust.record import Belonging, Contours, Cuts, ExpectedDice, Trust
from monai_tpseg.trust.tally import Tally

__all__ = ["Belonging", "Contours", "Cuts", "ExpectedDice", "Judge", "Observed", "Tally", "Trust", "observe"]
