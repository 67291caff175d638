"""From files and objects to checked records.

`reading` reads, `columns` and `values` check, `labels`, `cleaning` and `splits` prepare, `audit`
looks closely, and `prepare` is all of it in order. Nothing here imports TensorFlow or Keras, except
`pipeline`, which makes batches, and `augmentation`, which changes them in training.
"""
