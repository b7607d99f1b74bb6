"""DICOM: objects, attributes, pixels and stacks of slices in; segmentations out."""
