"""Objects on other machines: which addresses may be read, how they are listed and fetched. Never what they mean."""
