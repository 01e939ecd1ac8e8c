"""Pixels: one frame's bytes -> numpy array. Pure functions, which know no file and no Instance."""
