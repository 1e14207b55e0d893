"""Data: collections, the readers of their formats, and the files they are read from."""
