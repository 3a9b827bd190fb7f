"""Arrays to pictures; knows nothing of networks or data sets."""
