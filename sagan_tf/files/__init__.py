"""Atomic writes, hashes, locks, untrusted input, and work shared among processes."""
