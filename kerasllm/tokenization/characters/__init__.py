"""What normalizer and pre-tokenizer do to each Unicode character: tables made by running them."""
