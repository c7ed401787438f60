"""The commands that compare: `reprise compare`, `history` and `gate`. They parse, call one function, and print."""
