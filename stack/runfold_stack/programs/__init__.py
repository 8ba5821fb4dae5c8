"""The programs that the commands start: everything, a server, a worker."""
