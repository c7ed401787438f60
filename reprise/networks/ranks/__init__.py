"""Networks whose images several processes share: who passes what, and what they exchange on the way. No loss here."""
