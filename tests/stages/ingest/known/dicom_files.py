"""Small DICOM files of a person with a known name, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

NAME, IDENTITY, BORN = "Featherstonehaugh^Zebedee", "MRN-7351942", "19530817"


def dicom(path: Path, values: np.ndarray, patient: str | None = IDENTITY, **elements: Any) -> Path:
    """Write one file.

    Args:
        path: where.
        values: (h, w), (frames, h, w) or (h, w, 3), integers.
        patient: its ID; None leaves it out.
        elements: further elements of the header, by keyword; None removes one.
    """
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    header.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name, str(patient)])
    header.file_meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID = "1.2.3.4"
    header.PatientName, header.PatientBirthDate = NAME, BORN
    if patient is not None:
        header.PatientID = patient
    header.Modality, header.BodyPartExamined, header.ViewPosition = "CR", "CHEST", "PA"
    header.StudyDescription = f"chest of {NAME}"
    colour = values.ndim == 3 and values.shape[2] == 3
    header.Rows, header.Columns = values.shape[:2] if colour or values.ndim == 2 else values.shape[1:]
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    elif values.ndim == 3:
        header.NumberOfFrames = len(values)
    bits = values.dtype.itemsize * 8
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = int(values.dtype.kind == "i")
    header.BurnedInAnnotation = "NO"
    header.PixelData = np.ascontiguousarray(values).tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in elements.items():
        if value is None:
            del header[name]
        else:
            setattr(header, name, value)
    header["PixelData"].VR = "OW" if bits > 8 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def picture(seed: int, dtype: Any = np.uint16, most: int = 4096, shape: tuple[int, ...] = (20, 24)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, shape).astype(dtype)
