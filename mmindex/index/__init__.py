"""InstanceRecords <-> one LMDB file; imports neither the scan nor the sources."""
