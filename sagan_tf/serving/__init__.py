"""A local server that speaks TensorFlow Serving's predict API; a stand-in for development, not TensorFlow Serving."""
