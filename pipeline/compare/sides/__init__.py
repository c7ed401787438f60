"""Put revisions, experiments or runs side by side: what they were made from, and what came of it. No HTML here."""
