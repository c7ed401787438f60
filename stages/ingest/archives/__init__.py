"""Read data sets that come as archives, whatever their headers say and without running code."""
