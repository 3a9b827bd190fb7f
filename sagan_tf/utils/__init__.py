"""What every package may use: lazy exports, registration with Keras, quiet imports and progress bars."""
