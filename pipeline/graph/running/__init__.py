"""What runs in a project: which processes, in which words, and how long they still take. Never starts or ends one."""
