"""Readers of file formats that sources share: tars, protos, rows, columns.

Imports `errors`, `data.storage` and `data.source`.
"""
