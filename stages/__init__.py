"""What runs: one package per DVC stage, and its plug-ins. It never imports pipeline, prefect or dvc."""
