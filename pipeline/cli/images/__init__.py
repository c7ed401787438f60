"""The commands on single images: views, clusters, search, and the description of the data set. They hold no maths."""
