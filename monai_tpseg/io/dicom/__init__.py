"""DICOM, one idea a file: objects, attributes, pixels, stacks of slices, segmentations out."""
