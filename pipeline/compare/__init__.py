"""Compare revisions and runs, judge the gate, and evaluate any backbone. Nothing here imports Prefect or a stage."""
