"""Objects on other machines: how they are listed, fetched and sent, each whole or not at all. Never what they mean."""
