"""Embeddings of whole data sources as files: written, resumed, and searched.

Imports `config`, `data`, `evaluators`, `inference`, `report` and below.
"""
