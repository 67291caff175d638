"""Task models: a fine-tuned model with its tokenizer and labels, as users hold it."""
