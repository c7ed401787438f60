"""Stage `report`: write one self-contained HTML page from all artifacts. It computes no metric, changes no artifact."""
