"""Tests of the package: ``unit`` needs nothing, ``against`` needs a cluster, which ``tests/it/python_client.rs`` starts."""

import faulthandler

# Every wait has a deadline of its own; this one is for a fault in them: it tells where each thread is.
faulthandler.dump_traceback_later(100, exit=True)
