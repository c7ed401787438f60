"""What probes need that read images: pixels, masks, local features. Never a probe."""
