"""Stages that start as copies of a process which has loaded the large libraries once."""
