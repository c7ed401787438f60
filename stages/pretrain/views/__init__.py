"""Views: the random transformations under which a representation should not change.

`batched` draws and applies them for a whole batch of small images in torch; `per_image` goes through
albumentations for everything else. Both sample the same distribution; a test holds them against each other.
"""
