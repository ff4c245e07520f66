#!/bin/bash
# {{name}}: SIGTERM saves and ends it; the same command goes on.
exec {{command}}
