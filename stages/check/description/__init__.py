"""Parameters and plug-ins in words, for the terminal and the reference pages. Never a judgement of values."""
