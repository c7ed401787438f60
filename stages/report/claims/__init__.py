"""What the page claims, and how far it can be relied on: sentences and figures from verdicts. Never markup."""
