"""Files: atomic writes, hashes, locks, untrusted input, work shared among processes."""
