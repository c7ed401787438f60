"""Read what others publish in a form of its own: official files of known data sets. Never a layout of the user's."""
