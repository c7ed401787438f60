"""Views: random images that are made of an image by a list of changes, and should have the same representation.

`batched` applies the changes to a whole batch in torch; `per_image` takes albumentations, image by image. Both sample
the same distribution, and a test compares them. `make` chooses between the two. What a change does is in its own file.
"""
