"""Where bytes come from: files, memory, containers, stores; and roots that can be walked."""
