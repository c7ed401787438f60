"""Write self-contained pages of HTML about comparisons. Text from outside is escaped; nothing is computed here."""
