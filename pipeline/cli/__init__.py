"""The command line: parse, call one function, print. Decisions about the graph are made elsewhere."""
