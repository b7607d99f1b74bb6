"""How far a mask can be trusted: is it a picture of the task, which Dice to expect, where the lesion surely ends."""

from monai_tpseg.trust.judge import Judge
from monai_tpseg.trust.observe import Observed, observe
from monai_tpseg.trust.record import Belonging, Contours, Cuts, ExpectedDice, Trust
from monai_tpseg.trust.tally import Tally

__all__ = ["Belonging", "Contours", "Cuts", "ExpectedDice", "Judge", "Observed", "Tally", "Trust", "observe"]
