#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: run.sh BUILD. Runs every comparison and prints its table.
exec meson test -C "${1:-build}" --no-rebuild --benchmark --verbose
