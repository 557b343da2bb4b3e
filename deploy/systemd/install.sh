#!/bin/sh
# Put the units, accounts and folders of one party in place. Run again after an upgrade.
#
#   sudo sh install.sh coordinator|site
#
# DESTDIR: another root (for packages and tests); nothing is started there.
set -eu

party=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
case $party in
    coordinator) units="smrfed-coordinator.service smrfed-certificate.path smrfed-certificate.service" ;;
    site) units="smrfed-agent.service smrfed-network.service" ;;
    *)
        echo "usage: sudo sh install.sh coordinator|site" >&2
        exit 2
        ;;
esac

for unit in $units; do
    install -D -m 0644 "$here/$unit" "$root/etc/systemd/system/$unit"
done
install -D -m 0644 "$here/sysusers-$party.conf" "$root/etc/sysusers.d/smrfed-$party.conf"
install -D -m 0644 "$here/tmpfiles-$party.conf" "$root/etc/tmpfiles.d/smrfed-$party.conf"
if [ -z "$root" ]; then
    systemd-sysusers "smrfed-$party.conf"
    systemd-tmpfiles --create "smrfed-$party.conf"
    systemctl daemon-reload
fi
