"""Probes that need labels: how much of the classes can be read off frozen features."""
