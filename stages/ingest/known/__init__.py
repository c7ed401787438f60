"""Read the official files of known data sets. Never a rule for images of the user's own."""
