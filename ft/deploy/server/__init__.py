"""A model behind HTTP.

request -> ask (parse, decode, crop; every fault a 4xx) -> queue -> worker process (batch, forward pass) -> JSON

The HTTP server and the decoding threads are the process that the user started; each model has a process of its own.
"""
