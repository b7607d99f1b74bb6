"""The fast form of TP-Seg: the same function with fixed tasks and one precision, for inference."""
