"""The bytes of one DICOM file -> InstanceRecord.

Pure functions of a buffer (bytes, memoryview, mmap): no paths, no LMDB, no pydicom.
Structure only: no value is read but those that locate or decode frames.
"""
