"""Results: segmentation, report and key image as DICOM objects with their source's identity.

Floor 3, the only room that imports highdicom. Objects are built in pseudonymous space, restored, encoded and proved.
"""
