"""What the files of an ecosystem say about a model besides its weights."""
