"""Losses and their parts, one a file: pure functions of tensors. Never files, never methods.

An objective that compares the images of a batch takes `world`. Each rank passes its own rows, and the mean of the
returned losses over the ranks is the loss of one process on the whole batch.
"""
