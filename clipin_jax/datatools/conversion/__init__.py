"""`clipin data convert`: the records of a source as sharded files with a manifest.

Imports what `datatools` may import, `parts` and array_record.
"""
