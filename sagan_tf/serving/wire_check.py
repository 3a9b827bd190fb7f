"""Bounds of a PredictRequest before it is parsed, since parsing keeps the GIL and so holds up all other requests.

Source of the format: https://protobuf.dev/programming-guides/encoding/.
"""

from sagan_tf.serving.errors import RequestError

_MAX_FIELDS = 1 << 15
_MAX_PARSED_BYTES = 1 << 19  # of what is not the plain bytes of a tensor
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # wire types
_INPUTS, _VALUE = 2, 2  # fields of PredictRequest and of an entry of its map
_PLAIN = {4, 8}  # fields of TensorProto: tensor_content, string_val


def check_predict_request(content):
    """Raises RequestError for the bytes of a PredictRequest that are slow to parse, or none."""
    if len(content) <= _MAX_FIELDS:
        return
    counter = _Counter(content)
    try:
        for number, start, end in counter.fields(0, len(content)):
            if number != _INPUTS:
                counter.add_bytes(end - start)
                continue
            for number, start, end in counter.fields(start, end):
                if number != _VALUE:
                    counter.add_bytes(end - start)
                    continue
                for number, start, end in counter.fields(start, end):
                    if number not in _PLAIN:
                        counter.add_bytes(end - start)
    except IndexError:
        raise RequestError("The request is not a PredictRequest.") from None


class _Counter:
    def __init__(self, content):
        self._content, self._fields, self._bytes = content, 0, 0

    def add_bytes(self, count):
        self._bytes += count
        if self._bytes > _MAX_PARSED_BYTES:
            raise RequestError("The request is too large; send the values of large tensors as `tensor_content`.")

    def fields(self, start, end):
        """Yields (number, start, end) of the fields with a length in a part of the message; counts all fields."""
        while start < end:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise RequestError(f"The request has more than {_MAX_FIELDS} fields.")
            tag, start = self._varint(start)
            if tag & 7 == _BYTES:
                size, start = self._varint(start)
                if start + size > end:
                    raise IndexError
                yield tag >> 3, start, start + size
                start += size
            elif tag & 7 == _VARINT:
                _, start = self._varint(start)
            elif tag & 7 in (_FIXED_32, _FIXED_64):
                start += 4 if tag & 7 == _FIXED_32 else 8
            else:
                raise IndexError

    def _varint(self, start):
        value = 0
        for shift in range(0, 70, 7):
            byte = self._content[start]
            start += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, start
        raise IndexError
