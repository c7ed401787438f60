"""How pictures of our own are drawn, from values of which everything is known. Never which pictures a source gives."""
