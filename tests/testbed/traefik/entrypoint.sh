#!/bin/sh
# Starts Traefik the way the official image does: options alone, or a subcommand, mean `traefik …`.
set -e
case "$1" in
    -* | version | healthcheck) set -- traefik "$@" ;;
esac
exec "$@"
