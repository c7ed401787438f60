"""Readers of tables whose rows are images: CSV, TSV, Parquet, Arrow. No source; sources lie in `sources/`."""
