"""The clients: what people call, what is asked and when it is asked again, and how it gets there.

blocking.py and asynchronous.py are what people call; ``rewind`` hands on their names when they are
first used, so importing this loads nothing. requests.py, pages.py, follow.py and outstanding.py
decide, without sockets and clocks. zmq_blocking.py and zmq_async.py carry it out with the sockets of
zmq_sockets.py; embedded.py answers from a store in this process.
"""
