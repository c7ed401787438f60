"""The command line: parse, call one function, print. Never a decision about the graph."""
