"""Sources of bytes: files, memory, containers, stores; and roots that can be walked."""
