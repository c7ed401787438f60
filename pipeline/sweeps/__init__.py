"""Run sweeps: plans of parameter changes, their points, their comparison. Nothing here imports Prefect."""
