"""Parts of file formats that several sources share: tars, protos, rows, columns.

Imports `errors`, `data.storage` and `data.source`.
"""
