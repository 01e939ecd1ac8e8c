"""InstanceRecords <-> LMDB, and the build of an archive's index."""
