"""Search by words: analysis of text and BM25."""
