"""What a request is answered with when it is not served; imports nothing."""


class RequestProblem(Exception):
    """A request that is refused. Its text, worded as TensorFlow Serving words it where it has such a case, goes out.

    Args:
        message: What is wrong.
        status: HTTP status: 400 for a bad request, 404 for an unknown model or version, 413 for too much, 503 while no
            version is there or too many requests wait.
    """

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class UnknownSignature(RequestProblem):
    """A signature that a model does not have; gRPC has a status of its own for it, REST has 400.

    Args:
        name: Of the signature.
        known: Names that there are.
    """

    def __init__(self, name, known):
        super().__init__(f'Serving signature name: "{name}" not found in signature def; it has {", ".join(known)}')
