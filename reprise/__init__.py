"""What stages share, and what a user imports. Floors from low to high; never `stages`, `pipeline`, prefect or dvc."""
