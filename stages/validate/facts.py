"""The tables that the expectations are about, computed from manifest and quarantine."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from reprise.artifacts.manifest import FURTHER_SCHEMA

EXAMPLES = 5
# Their pictures are in the manifest: nothing is lost with them.
COPIES = ("duplicate", "duplicate_across_splits", "near_duplicate", "near_duplicate_across_splits")


@dataclass(frozen=True)
class Facts:
    """Tables for the suite.

    Args:
        images: the columns that manifests of every modality have, with two more: `copied_elsewhere`, whether another
            split holds an image with the same pixels, and `group_elsewhere`, whether another split holds an image of
            the same group.
        classes: a row for each class, with the columns label and train_images.
        totals: one row of counts and shares.
        refused: up to five names of refused files, copies apart.
        labelled: whether any image has a label.
    """

    images: pd.DataFrame
    classes: pd.DataFrame
    totals: pd.DataFrame
    refused: list[str]
    labelled: bool

    def table(self, name: str) -> pd.DataFrame:
        """Return the table `images`, `classes` or `totals`."""
        return {"images": self.images, "classes": self.classes, "totals": self.totals}[name]

    def keys_of(self, label: str) -> list[str]:
        """List up to five keys of a class."""
        return self.images.loc[self.images["label"] == label, "key"].head(EXAMPLES).tolist()


def gather(manifest: pa.Table, quarantine: pa.Table) -> Facts:
    """Compute the tables from the manifest and the quarantine table."""
    images = manifest.drop_columns([n for n in FURTHER_SCHEMA.names if n in manifest.column_names]).to_pandas()
    images["copied_elsewhere"] = _in_several_splits(images, "pixels")
    images["group_elsewhere"] = _in_several_splits(images, "group")
    train = images[images["split"] == "train"]
    labels = sorted(images["label"].dropna().unique().tolist())
    counts = train["label"].value_counts()
    classes = pd.DataFrame({"label": labels, "train_images": [int(counts.get(label, 0)) for label in labels]})
    sizes = classes["train_images"]
    refused = sorted(
        path
        for path, reason in zip(quarantine["path"].to_pylist(), quarantine["reason"].to_pylist(), strict=True)
        if reason not in COPIES
    )
    found = len(images) + quarantine.num_rows
    totals = {
        "train_images": len(train),
        "val_images": int((images["split"] == "val").sum()),
        "test_images": int((images["split"] == "test").sum()),
        "quarantined_share": len(refused) / found if found else 0.0,
        "classes": int((sizes > 0).sum()),
        "imbalance": float(sizes.max() / max(1, sizes.min())) if len(sizes) else 1.0,
        "unlabelled_images": int(images["label"].isna().sum()),
    }
    return Facts(images, classes, pd.DataFrame([totals]), refused[:EXAMPLES], bool(labels))


def _in_several_splits(images: pd.DataFrame, column: str) -> pd.Series:
    """Return for each row whether its value of `column` lies in more than one split; no value lies in none."""
    pairs = images[[column, "split"]].dropna().drop_duplicates()
    return images[column].isin(pairs.loc[pairs[column].duplicated(), column])
