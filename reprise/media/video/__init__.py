"""Films, whose frames become images: open untrusted files, decode exactly, find shots. Never a table, never labels."""
