"""Probes on shifted images: what a run keeps where the images are worse, or come from elsewhere."""
