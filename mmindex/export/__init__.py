"""The index for other tools: JSON lines, Parquet, kerchunk references, Zarr."""
