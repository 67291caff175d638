"""From a handle to a local path, and from a local path to one that is whole or not there at all."""
