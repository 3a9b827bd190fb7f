"""Faster implementations of layer operations for a device, chosen in one place."""
