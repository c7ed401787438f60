"""The commands on the graph and its parameters. They parse, call one function, and print."""
