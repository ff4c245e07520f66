"""What is measured of a run: speed, arithmetic, where its time goes, traces."""
