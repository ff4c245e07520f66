"""The space of a sweep: keys with values or ranges, and points listed beforehand."""
