"""Follow the figures of a project over revisions and nights. Nothing here imports Prefect or writes HTML."""
