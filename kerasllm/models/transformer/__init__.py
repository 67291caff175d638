"""Transformers as Keras models: one implementation, set by `settings.BackboneSettings` to compute what each
family does.

Start at `backbone.Backbone`. `settings` and `layout` import no TensorFlow.
"""
