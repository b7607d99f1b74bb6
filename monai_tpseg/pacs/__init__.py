"""Between an archive and a mask: a DICOM node that segments what it is sent, and the ways to send and to fetch.

It needs the extra `monai-tpseg[pacs]` (pynetdicom, dicomweb-client).
"""
