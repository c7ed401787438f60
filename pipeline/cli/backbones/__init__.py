"""The commands that use, judge and publish backbones. They parse, call one function, and print."""
