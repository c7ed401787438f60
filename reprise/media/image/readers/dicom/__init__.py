"""Read DICOM files with pydicom. Nothing that a file says of a person leaves this folder but for its patient's ID."""
