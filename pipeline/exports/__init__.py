"""Backbones for other programs: of which run, and with what card. The forms lie in reprise/backbones/exports."""
