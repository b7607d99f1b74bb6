"""Connection to archives: a DICOM node that segments the studies it receives, and commands to send and fetch objects.

The package needs the extra `monai-tpseg[pacs]` (pynetdicom, dicomweb-client).
"""
