"""Modalities, a folder each: how a file is inspected, decoded, stored and shown. Only here Pillow, OpenCV and av."""
