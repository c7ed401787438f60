"""What ingest says of files and images in codes, put into words."""

from __future__ import annotations

REASONS = {  # code in the quarantine (docs/reference/data-rules.md) -> words
    "burned_in": "text about the patient in the pixels",
    "broken_link": "link to a file that does not exist",
    "changed_while_reading": "changed while it was read",
    "crashed_decoder": "crashed or blocked the decoder",
    "duplicate": "copy of another image",
    "duplicate_across_splits": "copy of an image in another split",
    "empty": "empty file",
    "hidden": "hidden file or folder",
    "kernel_folder": "folder that the kernel makes up",
    "label_conflict": "copies with different labels",
    "link_loop": "link that leads back to itself",
    "link_to_folder": "link to a folder",
    "missing_window": "no window in the file",
    "missing_bands": "fewer bands than asked for",
    "near_duplicate": "nearly the same picture as another image",
    "near_duplicate_across_splits": "nearly the same picture as an image in another split",
    "name_not_utf8": "name that is not UTF-8",
    "no_patient": "names no patient",
    "no_pixels": "DICOM file without a picture",
    "not_a_file": "device, pipe or socket",
    "no_values": "no finite value",
    "not_a_volume": "not a volume",
    "not_an_image": "not an image",
    "other_dimensions": "array of other dimensions",
    "not_dicom": "no DICOM file",
    "other_file": "no image and not named as one",
    "other_modality": "sample of another kind than the data set's",
    "out_of_memory": "asks for too much memory",
    "outside_classes": "in no folder of a class",
    "outside_root": "link that leaves the folder",
    "outside_splits": "in no split folder",
    "several_frames": "several frames",
    "system_file": "file of the system",
    "too_many_bytes": "too many bytes",
    "too_many_pixels": "too many pixels",
    "too_small": "too small",
    "truncated": "ends too early",
    "undecodable": "damaged",
    "unknown_label": "label of no class",
    "unlabelled_test": "test set whose labels are not public",
    "unreadable": "cannot be read",
    "unsupported_compression": "compression without a decoder",
    "unsupported_depth": "pixel depth that is not supported",
}

CHANGES = {  # code in the table of notes (docs/reference/data-rules.md) -> words
    "anisotropic": "spacing that differs much between the axes",
    "bands": "some of the bands were taken",
    "clipped": "values beyond the range were cut off",
    "constant": "all values are equal",
    "converted": "colours were converted to RGB",
    "depth_reduced": "reduced to 8 bits by the decoder",
    "empty_slices": "most slices have one value throughout",
    "inverted": "min-is-white was inverted",
    "no_data": "a value for 'no data' was left out of the range",
    "not_finite": "values that are no number, or infinite",
    "page": "pages of a file with several",
    "profile": "a colour profile was not applied",
    "range": "a range of values becomes 0 to 255",
    "scaled": "values were scaled as the file's header says",
    "stored_smaller": "stored scaled down (shard.max_side)",
    "transparency": "transparency was laid over white",
    "turned": "turned upright",
}


def reason_words(code: str) -> str:
    """Put a reason of the quarantine into words; an unknown code is shown with spaces for underscores."""
    return REASONS.get(code, code.replace("_", " "))


def change_words(code: str) -> str:
    """Put a note into words; an unknown code is shown with spaces for underscores."""
    return CHANGES.get(code, code.replace("_", " "))
