"""Errors that the server answers a request with."""

CLIENT_CLOSED = 499  # status of a request that the client canceled, in the metrics only


class RequestError(Exception):
    """A refused request. The message is sent to the client; TensorFlow Serving's wording is used where it has one.

    Args:
        message: What is wrong.
        status: HTTP status: 400 for a bad request, 403 for a foreign web site, 404 for an unknown model or version, 408
            for a body that is too slow, 413 for one that is too large, 415 for one of another type, 503 while no
            version is loaded or too many requests wait.
    """

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class UnknownSignatureError(RequestError):
    """The model has no signature `name`. gRPC has a status of its own for it; REST answers 400."""

    def __init__(self, name, known_names):
        known = ", ".join(known_names)
        super().__init__(f'Serving signature name: "{name[:200]}" not found in signature def; it has {known}')
