"""Probes that compare runs with each other: how alike are two representations? Never one run alone."""
