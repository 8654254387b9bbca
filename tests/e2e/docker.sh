#!/bin/sh
# Runs the tests of the Collector, Jaeger and Kafka against the services of docker-compose.yml: make e2e-docker.
# The arguments are the command that runs pytest.
set -eu

E2E_FOLDER=$(mktemp -d)
E2E_USER=$(id -u):$(id -g)
export E2E_FOLDER E2E_USER
export OTEL_AUDIT_E2E_COMPOSE="docker compose --project-name otel-audit-e2e --project-directory . \
    --file docker-compose.yml --file tests/e2e/docker-compose.yml --profile jaeger --profile kafka --profile e2e"
export OTEL_AUDIT_E2E_HOST=host.docker.internal
export OTEL_AUDIT_E2E_COLLECTOR=http://127.0.0.1:4318 OTEL_AUDIT_E2E_JAEGER=http://127.0.0.1:16686
export OTEL_AUDIT_E2E_TO_FILE=http://127.0.0.1:24318 OTEL_AUDIT_E2E_GATEWAY=http://127.0.0.1:34318
export OTEL_AUDIT_E2E_KAFKA_IN=http://127.0.0.1:14318 OTEL_AUDIT_E2E_KAFKA_OUT=http://127.0.0.1:44318

# shellcheck disable=SC2086  # the command is made of words
trap '$OTEL_AUDIT_E2E_COMPOSE down --volumes --timeout 5; rm -rf "$E2E_FOLDER"' EXIT
$OTEL_AUDIT_E2E_COMPOSE pull --policy missing collector jaeger kafka
$OTEL_AUDIT_E2E_COMPOSE run --rm prepare
"$@" -m engines --basetemp "$E2E_FOLDER/tests" tests/e2e
