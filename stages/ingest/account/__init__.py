"""What ingest says of what it did: notes on changed images, and sentences for terminal and report. Never a decision."""
