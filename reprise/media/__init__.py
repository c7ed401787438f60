"""Modalities, a folder each: how a file is inspected, decoded, stored and shown. Only this package imports Pillow, OpenCV."""
