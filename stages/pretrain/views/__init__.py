"""Views: the random transformations under which a representation should not change.

`batched` draws and applies them to a whole batch of small images in torch; `per_image` takes albumentations for all
other images. Both sample the same distribution, and a test compares them. `make` chooses between the two.
"""
