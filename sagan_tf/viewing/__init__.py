"""Attention maps, image grids, charts and HTML pages."""
