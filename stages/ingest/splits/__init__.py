"""The ways in which images get their splits. Pure functions on rows: no file is read here."""
