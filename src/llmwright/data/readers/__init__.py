"""One file a format. Each has ``read_...(path) -> Iterator[Document]``.

A reader knows its format and nothing about folders: it leaves ``id``, ``source`` and
``language`` empty unless the format itself tells them, and ``documents.py`` fills them in.
"""
