"""A development server for exported models that speaks TensorFlow Serving's REST and gRPC API."""
