"""Strategies: a backbone that another run trained goes on learning from labels. Rows of `adapt` use them."""
