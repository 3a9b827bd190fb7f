"""Images from a generator: latents by seed, sampling, folding, pixels, safe loading."""
