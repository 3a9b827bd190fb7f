"""What both protocols tell about a model, as TensorFlow Serving's messages."""

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from sagan_tf.serving.problems import RequestProblem


def status_response(service, model, version=None):
    """The state of a model.

    Args:
        service: Service.
        model: Name.
        version: int, or None for what is served.

    Returns:
        GetModelStatusResponse.

    Raises:
        RequestProblem: There is no such model or version.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    try:
        number = service.find(model, version).number
    except RequestProblem as problem:
        what = "any versions" if version is None else f"version {version}"
        raise RequestProblem(f"Could not find {what} of model {model}", problem.status) from None
    entry = response.model_version_status.add(
        version=number, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
    )
    entry.status.SetInParent()  # present, though all in it is zero: OK
    return response


def metadata_response(service, model, version=None):
    """The signatures of a model.

    Args:
        service: Service.
        model: Name.
        version: int, or None for what is served.

    Returns:
        GetModelMetadataResponse.

    Raises:
        RequestProblem: There is no such model or version.
    """
    loaded = service.find(model, version)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model
    response.model_spec.version.value = loaded.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in loaded.definitions.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata["signature_def"].Pack(signatures)
    return response
