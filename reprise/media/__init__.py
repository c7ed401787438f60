"""Modalities, a folder each: how a file is inspected, decoded and stored. Only here Pillow and OpenCV are imported."""
