#!/bin/sh
# As `ssh HOST COMMAND`, but on this machine.
shift
exec sh -c "$*"
