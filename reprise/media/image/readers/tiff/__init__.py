"""TIFF, read and written by its own rules: every sample type, any number of bands, no damage accepted. No policy."""
