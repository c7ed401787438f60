"""What each command says of itself: examples, what it writes, exit codes, fields of its JSON. No command is here."""
