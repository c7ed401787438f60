"""Tables of any schema: Parquet for programs, CSV for people. Never the schema of one artifact."""
