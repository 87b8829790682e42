"""Retrieval by many weights a text: learned sparse terms, and one vector a token."""
