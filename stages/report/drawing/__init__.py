"""Drawings as inline SVG and pictures as data URIs, from numbers and pixels. Never the format of an artifact."""
