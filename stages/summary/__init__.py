"""Stage `summary`: compare all runs, with the verdicts that the seeds allow. Never images, features or training."""
