"""dicomnode: a DICOM network node beside a PACS that runs a network on each study and answers with SEG and SR."""

__version__ = "0.1.0"
