"""Reading a dataset: strangers' files into one heap, their pictures looked at once, a snapshot out.

All of it happens in a child process with limited memory (``workers.reading.child``) that knows neither the
database nor the object store.
"""
