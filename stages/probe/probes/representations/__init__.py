"""Probes that compare the representations of several encoders with each other; never one encoder alone."""
