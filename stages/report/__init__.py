"""Stage `report`: all artifacts become one self-contained HTML page. It computes no figure and changes no artifact."""
