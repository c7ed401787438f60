"""Manifest -> verdict; a gate that repairs nothing. Never reads pixels."""
