"""What the folders of Hugging Face's transformers state, one file for each family."""
