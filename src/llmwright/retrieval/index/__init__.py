"""The index folder: what is stored, how it is searched, how it changes."""
