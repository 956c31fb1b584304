#!/bin/sh
# The programs that some tests need: a browser, Redis in addition to the Valkey wheel, Prometheus and Alertmanager.
# Root gets them installed. Anybody else is shown the command; the tests that need them are then skipped.
set -eu

missing() {
    for program in "$@"; do command -v "$program" >/dev/null || return 0; done
    return 1
}

packages="" services=""
if missing chromium; then packages="$packages chromium"; fi
if missing chromedriver; then packages="$packages chromium-driver"; fi
if missing redis-server; then packages="$packages redis-server" services="$services redis-server"; fi
if missing prometheus promtool; then packages="$packages prometheus" services="$services prometheus"; fi
if missing prometheus-alertmanager amtool; then
    packages="$packages prometheus-alertmanager" services="$services prometheus-alertmanager"
fi
if [ -z "$packages" ]; then exit 0; fi

if ! command -v apt-get >/dev/null; then
    echo "Not installed:$packages (Debian's names). The tests that need them are skipped." >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "Not installed:$packages. The tests that need them are skipped. To run them, too:" >&2
    echo "  sudo apt-get install --no-install-recommends$packages" >&2
    exit 0
fi

echo "Installing programs that the tests need:$packages"
apt-get update -qq
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
# Debian starts some of them as services. The tests start their own, on ports of their own.
for service in $services; do
    echo "Stopping the service $service, which the installation has started."
    if [ -d /run/systemd/system ]; then
        systemctl disable --quiet --now "$service"
    else
        service "$service" stop >/dev/null 2>&1 || true # not started: nothing to stop
    fi
done
