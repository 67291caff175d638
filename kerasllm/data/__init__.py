"""From files and objects to checked records.

`reading` reads, `columns` and `values` check, `labels`, `cleaning` and `splits` prepare, `audit`
looks closely, and `prepare` is all of it in order.

From checked records to batches: `token_cache` makes token ids once, `widths`, `packing` and `epochs` say
which texts make which batch, `collation` makes the arrays, and `batching` is all of it, as a
`tf.data.Dataset`. `augmentation` has the Keras layers that change batches in training.
Nothing but that data set and those layers imports TensorFlow or Keras.
"""
