"""Frames as pictures: windows, PNG files, sheets of many frames."""
