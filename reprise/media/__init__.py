"""Modalities, a folder each: how a file is inspected, decoded, stored and shown. Pillow and OpenCV stay here."""
