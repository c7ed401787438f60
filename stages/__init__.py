"""WHAT runs: one package a DVC stage, over four floors. Never imports pipeline, prefect or dvc."""
