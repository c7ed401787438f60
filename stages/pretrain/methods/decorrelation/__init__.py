"""Decorrelation: views agree, and the dimensions of the features are kept apart or spread out. No negatives."""
