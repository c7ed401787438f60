"""The columns that volumes add to the manifest, the names of their files, and what their formats are called."""

from __future__ import annotations

from reprise.media.image import fields

COLUMNS = {  # those of images, with the same meanings, and two more
    **fields.COLUMNS,
    "depth": "int32",  # slices; `height` and `width` are the rows and columns of each
    "spacing": "string",  # "dz,dy,dx": distances of neighbouring values, in the unit of the file; null where unknown
}
EXTENSIONS = {"NPY": "npy", "NIFTI": "nii", "NIFTI_GZ": "nii.gz"}
NAMES = (".npy", ".nii", ".nii.gz")  # endings by which a name says that its file holds a volume
NPY_MAGIC, GZIP_MAGIC = b"\x93NUMPY", b"\x1f\x8b"
