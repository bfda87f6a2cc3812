from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class EncryptedObject(_message.Message):
    __slots__ = ("encrypted_data", "key_id", "encrypted_dek_source", "annotations", "encrypted_dek_source_type")
    class AnnotationsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    ENCRYPTED_DATA_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_DEK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_DEK_SOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    encrypted_data: bytes
    key_id: str
    encrypted_dek_source: bytes
    annotations: _containers.ScalarMap[str, bytes]
    encrypted_dek_source_type: int
    def __init__(self, encrypted_data: _Optional[bytes] = ..., key_id: _Optional[str] = ..., encrypted_dek_source: _Optional[bytes] = ..., annotations: _Optional[_Mapping[str, bytes]] = ..., encrypted_dek_source_type: _Optional[int] = ...) -> None: ...
