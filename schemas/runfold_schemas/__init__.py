"""The contract of the log: schemas, typed events, the envelope, the wire codec.

Everything else imports this room; it imports nothing of ours and does no I/O beyond reading its own schema files.
"""
