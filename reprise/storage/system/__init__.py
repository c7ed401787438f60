"""The operating system: its errors in words, its made-up files, and what it knows of a file. Never a format."""
