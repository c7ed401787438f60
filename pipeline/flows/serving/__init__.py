"""Serve Prefect's API and the pages behind a guard, for one flow or until Ctrl-C."""
