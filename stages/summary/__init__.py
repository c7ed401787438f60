"""All runs side by side, with the verdicts that the seeds allow. Never images, features or training."""
