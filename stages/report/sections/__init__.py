"""The sections of the page, one file each, looked up by file name. A section never reads a file or another section."""
