"""Plans runs for machines that are not there: memory, collectives, modelled time."""
