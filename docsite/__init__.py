"""What the documentation site generates from the code: references, the catalogue, the figures of docs/reading.md.

MkDocs calls hooks.py (see mkdocs.yml); nothing of lossbench imports this package.
"""
