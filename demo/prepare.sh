#!/bin/sh
# Before the other services of docker-compose.yml: makes the secrets at the first start, so that none stands in a
# file of the repository, and gives the collector's queue to the user that its image runs as.
set -eu

for name in secret-key audit-database-password shop-password; do
    if [ ! -s "/secrets/$name" ]; then
        head -c 30 /dev/urandom | base64 | tr -d '\n' > "/secrets/$name.new"
        chmod 0444 "/secrets/$name.new"
        mv "/secrets/$name.new" "/secrets/$name"
    fi
done
chown 10001 /queue
