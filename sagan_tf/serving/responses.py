"""Status and metadata of a model as TensorFlow Serving's messages, for both protocols."""

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from sagan_tf.serving.errors import RequestError


def status_response(service, model, version=None):
    """Returns a GetModelStatusResponse; RequestError if the model or version is unknown."""
    try:
        number = service.find(model, version).number
    except RequestError as error:
        missing = "any versions" if version is None else f"version {version}"
        raise RequestError(f"Could not find {missing} of model {model}", error.status) from None
    response = get_model_status_pb2.GetModelStatusResponse()
    entry = response.model_version_status.add(version=number, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    entry.status.SetInParent()  # present although all its fields are zero: OK
    return response


def metadata_response(service, model, version=None):
    """Returns a GetModelMetadataResponse with the signatures; RequestError if the model or version is unknown."""
    loaded = service.find(model, version)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model
    response.model_spec.version.value = loaded.number
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in loaded.definitions.items():
        signatures.signature_def[name].CopyFrom(definition)
    response.metadata["signature_def"].Pack(signatures)
    return response
