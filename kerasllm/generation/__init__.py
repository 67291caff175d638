"""Text from a language model, a token at a time: cached decoder, sampling, stopping, one loop for all."""
