"""The page of a sweep: table, parallel coordinates, importance, learning curves."""
