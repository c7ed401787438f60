"""Images of other sources, on which runs are judged, taken in and packed. Never the data set itself."""
